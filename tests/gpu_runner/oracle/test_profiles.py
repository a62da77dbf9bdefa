"""The host's profiles under their laws."""

import numpy as np

from gpu_runner.oracle.elements import numpy_dtype
from gpu_runner.oracle.profiles import Draw, fill_floats, fill_integers, fill_parameters
from gpu_runner.oracle.secret import Pool, Secret
from gpu_runner.problem import DType
from tests.gpu_runner.oracle.drawn import KEY
from tests.gpu_runner.oracle.laws_profiles import SHAPE, ProfileLaws

SECRET = Secret(KEY, "profiles")
POOL = Pool(SECRET, 64 * 96)


def work_of(shape, dtype: DType) -> np.ndarray:
    """Rows before they are rounded to a type narrower than float32."""
    return np.full(shape, np.nan, dtype=np.float64 if dtype is DType.FLOAT64 else np.float32)


class TestHostProfiles(ProfileLaws):
    slots = 1

    def rows_of(self, profile, *, call=0, dtype=DType.FLOAT32, shape=SHAPE, **flags):
        rows = work_of(shape, dtype)
        draw = Draw(SECRET, POOL, dtype, profile.value, call)
        for name, value in flags.items():
            setattr(draw, name, value)
        fill_floats(rows, profile, draw)
        return rows[None]

    def integers_of(self, profile, bounds=(-128, 127), *, call=0, shape=SHAPE, dtype=DType.INT8):
        rows = np.full(shape, 99, dtype=numpy_dtype(dtype))
        fill_integers(rows, bounds, profile, SECRET.generator(profile.value, call))
        return rows[None]

    def parameters_of(self, low, high, dtype):
        rows = work_of(SHAPE, dtype)
        fill_parameters(rows, low, high, Draw(SECRET, POOL, dtype, "parameter"))
        return rows[None]
