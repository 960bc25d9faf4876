# ssl-parts with PyTorch's own CUDA build, which also runs on a CPU.
#   docker build -t ssl-parts .
#   docker run --rm -v "$PWD":/work ssl-parts pretrain --config-name folder data.root=photographs encoder.weights=FILE
#   docker run --rm --gpus all --shm-size 8g -v "$PWD":/work --entrypoint accelerate ssl-parts \
#       launch -m ssl_parts pretrain --config-name folder data.root=photographs encoder.weights=FILE
FROM python:3.11-slim

WORKDIR /opt/ssl-parts
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY ssl_parts ssl_parts
COPY evaluation evaluation
COPY configs configs
RUN pip install --no-cache-dir . -c constraints.txt

WORKDIR /work
ENTRYPOINT ["ssl-parts"]
CMD ["--help"]
