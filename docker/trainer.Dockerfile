# Stage two, for GPU nodes (run with the NVIDIA container runtime). Holds no Beam.
# Build from the repository's root: docker build -f docker/trainer.Dockerfile -t mergedistill-trainer .
# Run: docker run --gpus all -v $PWD:/work mergedistill-trainer --nproc-per-node=gpu -m trainer /work/student.yaml
FROM python:3.11.14-slim-bookworm

# Dependencies before code, so that a code change rebuilds only the last layers. Versions
# come from requirements.txt; PyPI's torch brings its own CUDA libraries.
WORKDIR /app
COPY requirements.txt docker/trainer.txt ./
# A constraint may not name extras.
RUN sed -i "s/\[.*\]//" requirements.txt \
    && pip install --no-cache-dir --requirement trainer.txt --constraint requirements.txt

COPY schemas/ schemas/
COPY trainer/ trainer/
ENV PYTHONPATH=/app HF_HOME=/tmp/huggingface

RUN useradd --create-home trainer
USER trainer
# Relative paths in a configuration are the mounted folder's.
WORKDIR /work
ENTRYPOINT ["torchrun"]
