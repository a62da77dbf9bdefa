import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.ncu_sass import differences, kind_of
from gpu_runner.facts import SassLedger


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("LDG.E.128.CONSTANT R4, desc[UR4][R2.64]", "load_global_128"),
        ("LDG.E R4, [R2]", "load_global_32"),
        ("LDG.E.U8 R4, [R2]", "load_global_8"),
        ("STG.E.64 [R2], R4", "store_global_64"),
        ("@!P0   STG.E [R2], R4", "store_global_32"),
        ("@UP1 LDS.128 R1, [R2]", "load_shared_128"),
        ("LDSM.16.M88.4 R4, [R2]", "load_matrix"),
        ("LDL R1, [R1+0x10]", "local_load"),
        ("STL.64 [R1], R2", "local_store"),
        ("LDGSTS.E.BYPASS.128 [R1], [R2.64]", "copy_async"),
        ("UTMALDG.2D [UR8], [UR4]", "tma_load"),
        ("HMMA.16816.F32 R4, R8, R12, R4", "mma_hmma"),
        ("HGMMA.64x128x16.F32 R24, gdesc[UR4], R24", "mma_hgmma"),
        ("UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8]", "mma_tcgen05"),
        ("F2FP.BF16.F32.PACK_AB R1, R2, R3", "convert"),
        ("MUFU.EX2 R1, R2", "special"),
        ("BAR.SYNC.DEFER_BLOCKING 0x0", "barrier"),
        ("RED.E.ADD.F32.FTZ.RN [R2.64], R1", "atomic_global"),
        ("ATOMS.ADD R1, [R2], R3", "atomic_shared"),
        ("DFMA R1, R2, R3, R4", "float64"),
        ("IMAD.MOV.U32 R1, RZ, RZ, R2", "other"),
        ("IMAD.WIDE R1, R2, 0x4, R3", "integer"),
        ("EXIT", "other"),
        ("", ""),
        ("...", ""),
        ("-", ""),
    ],
)
def test_an_instruction_has_one_kind(instruction, kind):
    assert kind_of(instruction) == kind


def ledger(**kinds):
    return SassLedger(total=sum(kinds.values()), kinds=kinds)


def test_differences_name_what_came_went_and_changed():
    before = ledger(load_global_32=4, local_load=2, other=9)
    after = ledger(load_global_128=1, local_load=1, other=2)
    assert differences(before, after) == (
        "instructions: 15 -> 4",
        "load_global_128: 1 new",
        "load_global_32: 4 gone",
        "local_load: 2 -> 1",
    )


def test_equal_ledgers_differ_in_nothing():
    assert differences(ledger(mma_hmma=3), ledger(mma_hmma=3)) == ()


@given(st.text(max_size=60))
def test_any_text_has_at_most_one_kind(text):
    assert isinstance(kind_of(text), str)
