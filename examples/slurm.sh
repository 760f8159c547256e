#!/usr/bin/env bash
# The pipeline as an array job of 8 parts (PARTS=16 with --array=1-16 for 16):
#   sbatch --array=1-8 --gpus-per-task=1 examples/slurm.sh predictions.yaml
# When all parts are done: mergedistill predict predictions.yaml --finish
# A part that was killed is submitted again (sbatch --array=3 ...) and does what is missing.
set -euo pipefail
exec mergedistill predict "$1" --part "${SLURM_ARRAY_TASK_ID}/${PARTS:-8}"
