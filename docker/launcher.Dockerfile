# The launcher of a Dataflow Flex Template: the workers' image plus Google's launcher program, which calls the command.
# Build from the repository's root, after docker/pipeline.Dockerfile:
#   docker build -f docker/launcher.Dockerfile -t mergedistill-launcher \
#     --build-arg PIPELINE_IMAGE=mergedistill-pipeline --build-arg LAUNCHER_BASE=IMAGE .
# LAUNCHER_BASE is Google's base image of template launchers for Python 3.11, named in the guide to Flex Templates. Include its
# digest.
ARG PIPELINE_IMAGE
ARG LAUNCHER_BASE
FROM ${LAUNCHER_BASE} AS launcher
FROM ${PIPELINE_IMAGE}

COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
COPY docker/flex_template.py /app/
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/app/flex_template.py
ENTRYPOINT ["/opt/google/dataflow/python_template_launcher"]
