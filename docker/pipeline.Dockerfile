# The Beam worker of stage one, for Dataflow (--sdk_container_image) or any portable runner.
# Build from the repository's root: docker build -f docker/pipeline.Dockerfile -t mergedistill-pipeline .
FROM apache/beam_python3.11_sdk:2.77.0

# Dependencies come before code, so that a code change rebuilds only the last layers. Versions come from requirements.txt.
# torch from PyPI includes the CUDA libraries.
WORKDIR /app
COPY requirements.txt docker/pipeline.txt ./
# Constraints may not have extras.
RUN sed -i "s/\[.*\]//" requirements.txt \
    && pip install --no-cache-dir --requirement pipeline.txt --constraint requirements.txt

COPY schemas/ schemas/
COPY pipeline/ pipeline/
ENV PYTHONPATH=/app HF_HOME=/tmp/huggingface

RUN useradd --create-home worker
USER worker
# The entrypoint of the base image, /opt/apache/beam/boot, starts the worker.
