# Stage two, for GPU nodes (run with the NVIDIA container runtime). Does not contain Beam.
# Build from the repository's root: docker build -f docker/trainer.Dockerfile -t mergedistill-trainer .
# Run: docker run --gpus all -v $PWD:/work mergedistill-trainer --nproc-per-node=gpu -m trainer /work/student.yaml
FROM python:3.11.14-slim-bookworm

# Dependencies come before code, so that a code change rebuilds only the last layers. Versions come from requirements.txt.
# torch from PyPI includes the CUDA libraries.
WORKDIR /app
# For `torch_compile`.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY requirements.txt docker/trainer.txt ./
# Constraints may not have extras.
RUN sed -i "s/\[.*\]//" requirements.txt \
    && pip install --no-cache-dir --requirement trainer.txt --constraint requirements.txt

COPY schemas/ schemas/
COPY trainer/ trainer/
ENV PYTHONPATH=/app HF_HOME=/tmp/huggingface

RUN useradd --create-home trainer
USER trainer
# Resolves relative paths in a configuration against the mounted folder.
WORKDIR /work
ENTRYPOINT ["torchrun"]
