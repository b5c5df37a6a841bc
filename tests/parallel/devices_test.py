"""The process before anything touches a device."""

import os
import subprocess
import sys

import pytest

BFLOAT16 = """
import sys, warnings, jax, jax.numpy as jnp
from jaxgan import cpu, parallel
warnings.simplefilter("error")
cpu.multiplies_bfloat16 = lambda: {products}
parallel.initialize(compilation_cache=sys.argv[1], keep_memory=False)
options = parallel.compiler_options("bfloat16")
assert bool(options) <= {products}, options
x, w = jnp.ones((4, 8, 8, 16), jnp.bfloat16), jnp.ones((3, 3, 16, 16), jnp.bfloat16)
def step(x, w):
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
program = jax.jit(step, compiler_options=options).lower(x, w).compile()
try:
    program.runtime_executable().serialize()
    print("cached")
except MemoryError:
    print("not cached")
"""


@pytest.mark.parametrize("products", [False, True])
def test_bfloat16_programs_that_cannot_be_cached_are_reported_once_and_others_are_cached(
    tmp_path, products
):
    code = BFLOAT16.format(products=products)
    argv = [sys.executable, "-c", code, str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if "CACHE" not in k}  # those of the tests
    result = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "cached\n" or products, result
    note = "note: this XLA cannot store bfloat16 programs that call oneDNN; every start compiles"
    assert result.stderr.count(note) == (result.stdout == "not cached\n"), result
    assert result.stderr.count("\n") == result.stderr.count(note), result
    assert any(tmp_path.rglob("jit_step*")) == (result.stdout == "cached\n")
