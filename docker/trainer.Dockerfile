# Stage two, for GPU nodes (run with the NVIDIA container runtime). Does not contain Beam.
# Build from the repository's root: docker build -f docker/trainer.Dockerfile -t mergedistill-trainer .
# Run: docker run --gpus all -v $PWD:/work mergedistill-trainer --nproc-per-node=gpu -m trainer /work/student.yaml
FROM python:3.11.14-slim-bookworm

# Dependencies before code, so that a code change rebuilds only the last layers. The versions are those of
# requirements.txt. torch from PyPI includes the CUDA libraries.
WORKDIR /app
# For `torch_compile`.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY requirements.txt docker/trainer.txt ./
# A constraint may not name extras.
RUN sed -i "s/\[.*\]//" requirements.txt \
    && pip install --no-cache-dir --requirement trainer.txt --constraint requirements.txt

COPY schemas/ schemas/
COPY trainer/ trainer/
ENV PYTHONPATH=/app HF_HOME=/tmp/huggingface

RUN useradd --create-home trainer
USER trainer
# So that relative paths in a configuration are in the mounted folder.
WORKDIR /work
ENTRYPOINT ["torchrun"]
