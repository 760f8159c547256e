"""What `auto` means for a precision: bfloat16 where the hardware computes in it, else float32.

Both stages ask a GPU whether it has bfloat16 without emulation, and a CPU for the instructions named here (as
`torch.cpu.get_capabilities` names them). Emulated bfloat16 would be slower than float32.
"""

# A teacher's predictions are stored permanently, with their rounding (about 0.05 nats). So the teacher runs in bfloat16
# only where that is several times faster. AVX512-BF16 without AMX was not measured.
TEACHER_INSTRUCTIONS = ("amx_bf16",)
# A student's weights stay float32; only its matrix products are rounded.
STUDENT_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
