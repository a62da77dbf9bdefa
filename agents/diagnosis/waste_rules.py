"""Rules for what makes the other explanations moot: no work, or work that need not be done. Data.

A unit that is busy with waste is no roof, so these are asked before the roofs.
"""

from agents.diagnosis.rules import DeviceRule, Treatment, at_least, at_most
from agents.replies import Movement

_SOL = "the tool's Speed Of Light rules: below 60 % no unit limits, from 80 % one does"
_LAUNCH = "a kernel of one warp and one store took 1.7 us on an H200, as captured"
_SECTORS = "CUDA C++ Best Practices, coalesced access: a sector is 32 bytes, all of it is moved"
_BANKS = "CUDA C++ Programming Guide, shared memory: 32 banks, a pass for each address of a bank"
_LOCAL = "CUDA C++ Programming Guide, local memory: it lies in DRAM behind L1 and L2"
_WARP = "CUDA C++ Programming Guide, SIMT: a warp runs each side of a branch in turn"
_ATOMIC = "CUDA C++ Programming Guide, atomic functions: updates of one address are served in turn"
_SHARE = "a third of the waiting is the least that one edit can show in the time"

_MORE_REGISTERS = Treatment(
    change="raise the cap on registers (a lower minimum of blocks in __launch_bounds__, no "
    "--maxrregcount), or keep fewer values a thread by a smaller tile or less unrolling",
    expects=Movement(metric="local_sector_share", direction="down", factor=0.2),
    validation="ptxas -v reports 0 bytes of spill stores and loads, and the time falls",
)

WASTE_RULES: tuple[DeviceRule, ...] = (
    DeviceRule(
        name="launch_overhead",
        bottleneck="launch_overhead",
        tier=0,
        conditions=(
            at_most("time_us", 5.0, 2.5, _LAUNCH),
            at_most("busiest", 0.6, 0.2, _SOL, is_needed=False),
        ),
        because=(
            "the kernel is over in the time that starting and draining one takes",
            "no unit is busy long enough for an edit of the kernel to show",
        ),
        others_are_weaker="stalls of so short a kernel are those of its first instructions",
        treatment=Treatment(
            change="leave the kernel as it is: fuse it into its neighbour, or replay the calls "
            "from a CUDA graph, so that fewer launches are paid for",
            expects=Movement(metric="time_us", direction="down", factor=0.7),
            validation="time of the whole call, with the launches that went away",
        ),
        query="kernel fusion launch overhead cuda graph",
    ),
    DeviceRule(
        name="register_spills",
        bottleneck="spills",
        tier=1,
        conditions=(
            at_least("local_sector_share", 0.15, 0.5, _LOCAL),
            at_least("local_instruction_share", 0.02, 0.1, _LOCAL, is_needed=False),
            at_least("spill_request_share", 0.5, 0.8, _LOCAL, is_needed=False),
        ),
        because=(
            "a thread keeps more values than it has registers, so they go to local memory",
            "their loads and stores queue before those that the data need",
        ),
        others_are_weaker="long scoreboard and a busy L2 or DRAM are the spills' own traffic",
        treatment=_MORE_REGISTERS,
        query="register spills launch bounds local memory tile",
    ),
    DeviceRule(
        name="counted_spills",
        bottleneck="spills",
        tier=1,
        conditions=(
            at_least("local_instruction_share", 0.1, 0.3, _LOCAL),
            at_least("spill_request_share", 0.5, 0.8, _LOCAL),
        ),
        because=("one of ten instructions or more moves a spilled register",),
        others_are_weaker="long scoreboard and a busy L2 or DRAM are the spills' own traffic",
        treatment=_MORE_REGISTERS,
        query="register spills launch bounds local memory tile",
    ),
    DeviceRule(
        name="compiled_spills",
        bottleneck="spills",
        tier=1,
        conditions=(
            at_least("spill_bytes", 17.0, 64.0, "up to 16 bytes are saved outside of loops mostly"),
            at_least("local_sector_share", 0.05, 0.15, _LOCAL, is_needed=False),
        ),
        because=("the compiler reports values that it could not keep in registers",),
        others_are_weaker="local memory takes the bandwidth that the data need",
        treatment=_MORE_REGISTERS,
        query="register spills launch bounds local memory tile",
    ),
    DeviceRule(
        name="local_arrays",
        bottleneck="spills",
        tier=1,
        conditions=(
            at_least("local_sector_share", 0.15, 0.5, _LOCAL),
            at_least("local_instruction_share", 0.02, 0.1, _LOCAL, is_needed=False),
            at_most("spill_request_share", 0.5, 0.1, _LOCAL),
        ),
        because=(
            "the compiler does not know the index into a thread's array, so it is in local memory",
            "indices known when compiling would keep it in registers",
        ),
        others_are_weaker="the compiler reports no spills; the local traffic is the array's",
        treatment=Treatment(
            change="unroll the loops that index the thread's array, so that every index is a "
            "constant, or move the array to shared memory",
            expects=Movement(metric="local_sector_share", direction="down", factor=0.2),
            validation="no LDL and STL in the machine code, and the time falls",
        ),
        query="local memory array unroll constant index",
    ),
    DeviceRule(
        name="atomics",
        bottleneck="atomics",
        tier=1,
        conditions=(
            at_least("atomic_request_share", 0.15, 0.4, _ATOMIC),
            at_least("stall_atomics", 0.33, 0.7, _SHARE, is_needed=False),
            at_most("dram_fraction", 0.8, 0.6, _SOL, is_needed=False),
        ),
        because=(
            "a large part of what goes to memory are atomics, which are served one by one",
            "those that hit one address wait for one another, however many warps there are",
        ),
        others_are_weaker="waiting for memory is waiting for the atomics, not for the data",
        treatment=Treatment(
            change="reduce first: within the warp (__reduce_add_sync or shuffles), then within the "
            "block in shared memory, and send one atomic a block",
            expects=Movement(metric="atomic_request_share", direction="down", factor=0.2),
            validation="atomic requests a block instead of a thread, and the time falls",
        ),
        query="atomics contention warp reduction privatisation",
    ),
    DeviceRule(
        name="bank_conflicts",
        bottleneck="shared_memory_bank_conflicts",
        tier=1,
        conditions=(
            at_least("shared_conflict_share", 0.3, 0.7, _BANKS),
            at_least("shared_fraction", 0.3, 0.7, _SOL),
        ),
        because=(
            "threads of a warp ask for different words of one bank, so an access takes many passes",
            "warps wait for the passes (short scoreboard) while nothing else is busy",
        ),
        others_are_weaker="the data path of shared memory is busy with passes that need not be",
        treatment=Treatment(
            change="pad the rows of the shared array by one element, or swizzle the column with "
            "the row (column ^ row), so that the threads of a warp meet different banks",
            expects=Movement(metric="shared_conflict_share", direction="down", factor=0.1),
            validation="wavefronts equal to the ideal ones, and the time falls",
            by_arch={
                "sm_90": "pad the rows of the shared array by one element, or swizzle the column "
                "with the row; what TMA or wgmma read takes one of their 32, 64 or 128 byte "
                "swizzles",
            },
        ),
        query="shared memory bank conflicts padding swizzle",
    ),
    DeviceRule(
        name="waiting_for_conflicts",
        bottleneck="shared_memory_bank_conflicts",
        tier=1,
        conditions=(
            at_least("shared_conflict_share", 0.4, 0.8, _BANKS),
            at_least("stall_shared", 0.33, 0.7, _SHARE),
        ),
        because=(
            "warps wait for shared memory, most of whose passes only conflicts make necessary",
        ),
        others_are_weaker="what waits longest waits for these very accesses",
        treatment=Treatment(
            change="pad the rows of the shared array by one element, or swizzle the column with "
            "the row, so that the threads of a warp meet different banks",
            expects=Movement(metric="shared_conflict_share", direction="down", factor=0.1),
            validation="wavefronts equal to the ideal ones, and the time falls",
        ),
        query="shared memory bank conflicts padding swizzle",
    ),
    DeviceRule(
        name="divergence",
        bottleneck="divergence",
        tier=1,
        conditions=(
            at_most("thread_fraction", 0.7, 0.4, _WARP),
            at_least("work_busy", 0.15, 0.4, "where little is issued, idle threads cost little"),
            at_most("stall_memory", 0.6, 0.3, _SHARE, is_needed=False),
            at_most("stall_sync", 0.3, 0.1, _SHARE, is_needed=False),
        ),
        because=(
            "an instruction serves a part of its warp's threads, the others sit it out",
            "the same work takes as many more instructions as threads are idle",
        ),
        others_are_weaker="the pipes are busy with instructions that full warps would not need",
        treatment=Treatment(
            change="make the branch uniform within a warp: sort or bin the work by the condition, "
            "assign it by warp instead of by thread, or compute both sides and select",
            expects=Movement(metric="thread_fraction", direction="up", factor=1.4),
            validation="threads an instruction near 32, fewer instructions executed",
        ),
        query="warp divergence branch uniform",
    ),
    DeviceRule(
        name="atomic_units",
        bottleneck="atomics",
        tier=1,
        conditions=(at_least("atomic_unit_fraction", 0.5, 0.8, _ATOMIC),),
        because=("the L2's atomic units are busy, in the slice that holds the address",),
        others_are_weaker="no other unit is in use as long",
        treatment=Treatment(
            change="reduce within the warp and the block first, or spread the sum over several "
            "addresses that a last kernel adds up",
            expects=Movement(metric="atomic_unit_fraction", direction="down", factor=0.3),
            validation="the atomic units' share falls with the time",
        ),
        query="atomics contention warp reduction privatisation",
    ),
    DeviceRule(
        name="uncoalesced_dram",
        bottleneck="uncoalesced_access",
        tier=1,
        conditions=(
            at_most("sector_use", 0.6, 0.3, _SECTORS),
            at_least("dram_fraction", 0.6, 0.8, _SOL),
        ),
        because=(
            "threads of a warp touch parts of many sectors, and whole sectors are moved",
            "the DRAM is busy, mostly with bytes that nobody reads",
        ),
        others_are_weaker="the DRAM is no roof while most of its bytes are waste",
        treatment=Treatment(
            change="let neighbouring threads touch neighbouring addresses: swap the index that "
            "threads run over, store the data as a structure of arrays, or transpose a tile "
            "through shared memory",
            expects=Movement(metric="sector_use", direction="up", factor=2.0),
            validation="sectors a request near 4 for 4 bytes a thread, and fewer DRAM bytes",
        ),
        query="coalesced access transpose shared memory structure of arrays",
    ),
    DeviceRule(
        name="uncoalesced_caches",
        bottleneck="uncoalesced_access",
        tier=1,
        conditions=(
            at_most("sector_use", 0.5, 0.25, _SECTORS),
            at_least("memory_busy", 0.4, 0.7, _SOL),
            at_least("stall_memory", 0.5, 0.8, _SHARE),
            at_least(
                "occupancy_fraction", 0.35, 0.6, "with fewer warps it is latency, not bandwidth"
            ),
        ),
        because=(
            "a request of a warp touches many sectors, each of which takes its turn in L1 and L2",
            "warps enough are in flight, so it is the number of sectors that they wait for",
        ),
        others_are_weaker="more warps would only queue for the same sectors",
        treatment=Treatment(
            change="let neighbouring threads touch neighbouring addresses: swap the index that "
            "threads run over, or stage a tile through shared memory",
            expects=Movement(metric="sector_use", direction="up", factor=2.0),
            validation="sectors a request near 4 for 4 bytes a thread, and the time falls",
        ),
        query="coalesced access transpose shared memory structure of arrays",
    ),
    DeviceRule(
        name="uncoalesced_l1",
        bottleneck="uncoalesced_access",
        tier=1,
        conditions=(
            at_most("sector_use", 0.5, 0.25, _SECTORS),
            at_least("l1_beside_shared", 0.5, 0.8, _SOL),
        ),
        because=("L1 looks up many sectors for each request of a warp",),
        others_are_weaker="what L1 is busy with are sectors of which little is used",
        treatment=Treatment(
            change="let neighbouring threads touch neighbouring addresses, with 16 bytes a thread "
            "where the data allow",
            expects=Movement(metric="sector_use", direction="up", factor=2.0),
            validation="sectors a request near 4 for 4 bytes a thread, and the time falls",
        ),
        query="coalesced access vectorised loads",
    ),
    DeviceRule(
        name="excess_traffic",
        bottleneck="excess_traffic",
        tier=1,
        conditions=(
            at_least("excess_bytes", 1.5, 2.5, "bytes that any right answer must move"),
            at_least("dram_fraction", 0.6, 0.8, _SOL),
        ),
        because=(
            "the DRAM is busy, and more passes over it than the task needs",
            "data that stay in registers, shared memory or L2 need not come twice",
        ),
        others_are_weaker="every unit but the DRAM has time left",
        treatment=Treatment(
            change="read every element once: fuse the passes, keep a row on chip between them, or "
            "order the blocks so that what they share is still in L2",
            expects=Movement(metric="dram_bytes", direction="down", factor=0.67),
            validation="DRAM bytes near those required, and the time falls with them",
        ),
        query="fuse passes keep row on chip l2 reuse",
    ),
)
