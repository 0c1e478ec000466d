# The server in a container:
#   docker build -t cutaway .        (--build-arg PIP_EXTRA_INDEX_URL=... of torch's CPU builds makes it gigabytes smaller)
#   docker run -p 8000:8000 -e CUTAWAY_API_KEY=... -v cutaway:/home/cutaway/.cache cutaway smollm2-135m
# Models are kept in the volume; a folder of yours is served from where you mount it. CUTAWAY_THREADS takes fewer cores.
FROM python:3.12-slim

# A compiler, for kernels built for the processor they run on: in the background of the first start, kept in the volume.
RUN apt-get update && apt-get install --no-install-recommends -y g++ && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home cutaway
WORKDIR /opt/cutaway
ARG PIP_EXTRA_INDEX_URL
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir -c constraints.txt ".[serve]"
USER cutaway
WORKDIR /home/cutaway
RUN mkdir .cache
VOLUME /home/cutaway/.cache
EXPOSE 8000
HEALTHCHECK --interval=30s --start-period=10m CMD \
    ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
# Told to end, it has 10 seconds for what runs; `docker stop` waits as long.
STOPSIGNAL SIGTERM
ENTRYPOINT ["cutaway", "serve", "--host", "0.0.0.0"]
CMD ["smollm2-135m"]
