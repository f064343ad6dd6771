"""Secrets, proxies, stores, limits of a machine: what lies around a job, and how it is named."""

from tests.cases import Case
from tests.cases._surroundings import (
    answer_of_a_store,
    beginning_of_a_step,
    environment_meanwhile,
    excess,
    headers_of_an_object,
    hidden_in,
    keys_in_a_failure,
    lines_of_a_block,
    memory_that_is_printed,
    memory_that_is_refused,
    program_of_credentials,
    proxies,
    secret_of_a_job_description,
    secret_that_is_cut,
    setting,
    slow_worker,
    suspected,
    variables_of_a_worker,
    without_proc,
    without_python,
    worker_without_memory,
)

PASSWORD = "http://me:p4ssword-of-mine@proxy:3128"

CASES: tuple[Case, ...] = (
    Case(
        "keys-in-a-failure",
        "a function raises its environment, with keys of AWS in it",
        "the secret is there, also in run.json and the report",
        "the secret is not there",
        keys_in_a_failure,
        slow=True,
    ),
    Case(
        "secret-that-is-cut",
        "an error of 1,200 characters with the token where its middle is left out",
        "a part of it is there",
        "a part of it is not there",
        secret_that_is_cut,
    ),
    Case(
        "variables-of-a-worker",
        "AWS_SECRET_ACCESS_KEY and the address of a container's role in the environment of a job",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_SECRET_ACCESS_KEY",
        "none",
        variables_of_a_worker,
        slow=True,
    ),
    Case(
        "environment-meanwhile",
        "another thread reads BOSS_TOKEN and OMP_NUM_THREADS while a worker starts",
        "None 1; None 7; public 1; public 7",
        "public 7",
        environment_meanwhile,
        slow=True,
    ),
    Case(
        "user-in-an-address",
        "a text with HTTPS_PROXY in it",
        "sent through http://me:p4ssword-of-mine@proxy:3128",
        "sent through http://***@proxy:3128",
        hidden_in(f"sent through {PASSWORD}", HTTPS_PROXY=PASSWORD),
    ),
    Case(
        "password-alone",
        "a text with the password of HTTPS_PROXY in it",
        "it is p4ssword-of-mine",
        "it is ***",
        hidden_in("it is p4ssword-of-mine", HTTPS_PROXY=PASSWORD),
    ),
    Case(
        "credentials-file",
        "a text with a line of ~/.aws/credentials in it",
        "aws_secret_access_key = abc/def+123",
        "aws_secret_access_key = ***",
        hidden_in("aws_secret_access_key = abc/def+123"),
    ),
    Case(
        "key-id",
        "a text with the ID of a key of AWS in it",
        "AKIAIOSFODNN7EXAMPLE may not",
        "*** may not",
        hidden_in("AKIAIOSFODNN7EXAMPLE may not"),
    ),
    Case(
        "secret-of-a-job-description",
        "nd-synapse batch submit --param key=SECRET",
        "submitted, in DescribeJobs",
        "2: --param on AWS Batch: a secret of this machine is in it, and everyone who may describe the job "
        "could read it. Leave it out.",
        secret_of_a_job_description,
    ),
    Case(
        "proxy",
        "HTTPS_PROXY=http://proxy:3128",
        "none",
        "http://proxy:3128",
        proxies("https://boss.example", HTTPS_PROXY="http://proxy:3128"),
    ),
    Case(
        "no-proxy",
        "HTTPS_PROXY=http://proxy:3128 NO_PROXY=.example",
        "none",
        "none",
        proxies("https://boss.example", HTTPS_PROXY="http://proxy:3128", NO_PROXY=".example"),
    ),
    Case(
        "proxy-for-this-machine",
        "HTTPS_PROXY=http://proxy:3128 with --host https://127.0.0.1:8080",
        "none",
        "none",
        proxies("https://127.0.0.1:8080", HTTPS_PROXY="http://proxy:3128"),
    ),
    Case(
        "proxy-of-another-kind",
        "HTTPS_PROXY=socks5://proxy:1080",
        "none",
        "the proxy socks5://proxy:1080 for https://boss.example: it is not of the kind http:// or https://. "
        "Set HTTPS_PROXY (HTTP_PROXY for an http:// host) to an http:// proxy, or name the host in NO_PROXY.",
        proxies("https://boss.example", HTTPS_PROXY="socks5://proxy:1080"),
    ),
    Case(
        "plain-store",
        "AWS_REQUEST_CHECKSUM_CALCULATION=when_required, and an object is written",
        "x-amz-sdk-checksum-algorithm",
        "content-md5",
        headers_of_an_object,
    ),
    Case(
        "store-without-checksums",
        "a store answers 501 NotImplemented",
        "69: Wait a while",
        "2: If the store knows no checksums, set AWS_REQUEST_CHECKSUM_CALCULATION and "
        "AWS_RESPONSE_CHECKSUM_VALIDATION to when_required",
        answer_of_a_store(501, "NotImplemented"),
    ),
    Case(
        "store-without-trailers",
        "a store answers 400 XAmzContentSHA256Mismatch",
        "2: Check bucket, region and settings",
        "2: If the store knows no checksums, set AWS_REQUEST_CHECKSUM_CALCULATION and "
        "AWS_RESPONSE_CHECKSUM_VALIDATION to when_required",
        answer_of_a_store(400, "XAmzContentSHA256Mismatch"),
    ),
    Case(
        "clock",
        "S3 answers 403 RequestTimeTooSkewed",
        "77: Check the credentials",
        "74: Set the clock of this machine",
        answer_of_a_store(403, "RequestTimeTooSkewed"),
    ),
    Case(
        "credential-process-hangs",
        "a credential_process that does not end",
        "waits for ever",
        "77: connecting to AWS (s3): Error when retrieving credentials from credential_process: the program "
        "did not end within 0.2 s",
        program_of_credentials("import time; time.sleep(1000)"),
        slow=True,
    ),
    Case(
        "credential-process-writes-text",
        "a credential_process that writes no JSON",
        "2: ... Expecting value ... Correct AWS_ENDPOINT_URL and the region",
        "77: connecting to AWS (s3): Error when retrieving credentials from credential_process: the program "
        "wrote no credentials (JSONDecodeError)",
        program_of_credentials("print('log in')"),
    ),
    Case(
        "credential-process-writes-a-list",
        "a credential_process that writes []",
        "69: the response is malformed ... Check AWS_ENDPOINT_URL and proxies",
        "77: connecting to AWS (s3): Error when retrieving credentials from credential_process: the program "
        "wrote no credentials (AttributeError)",
        program_of_credentials("print([])"),
    ),
    Case(
        "omp",
        "OMP_NUM_THREADS=abc",
        "a run that goes on, with a warning of libgomp",
        "2: OMP_NUM_THREADS in the environment: 'abc' is no whole number up to 4096. Correct it, or unset it.",
        setting("OMP_NUM_THREADS", "abc"),
    ),
    Case(
        "loky",
        "LOKY_MAX_CPU_COUNT=abc",
        "0, and the report lacks its clusters",
        "2: LOKY_MAX_CPU_COUNT in the environment: 'abc' is no whole number up to 4096. Correct it, or unset it.",
        setting("LOKY_MAX_CPU_COUNT", "abc"),
    ),
    Case(
        "joblib",
        "JOBLIB_MULTIPROCESSING=abc",
        "1: a defect of nd-synapse, please report it",
        "2: JOBLIB_MULTIPROCESSING in the environment: 'abc' is no whole number up to 1. Correct it, or unset it.",
        setting("JOBLIB_MULTIPROCESSING", "abc"),
    ),
    Case(
        "blosc",
        "BLOSC_NTHREADS=9999",
        "65: the pipeline failed on every block. Check the pipeline",
        "2: BLOSC_NTHREADS in the environment: '9999' is no whole number up to 256. Correct it, or unset it.",
        setting("BLOSC_NTHREADS", "9999"),
    ),
    Case(
        "blosc-compressor",
        "BLOSC_COMPRESSOR=abc",
        "65: it failed on every block, on the first with error: Error -1 while compressing data. Check the pipeline",
        "2: BLOSC_COMPRESSOR in the environment: 'abc' is none of blosclz, lz4, lz4hc, zlib, zstd. "
        "Correct it, or unset it.",
        setting("BLOSC_COMPRESSOR", "abc"),
    ),
    Case(
        "blosc-compressor-empty",
        "BLOSC_COMPRESSOR=",
        "65: it failed on every block, on the first with error: Error -1 while compressing data. Check the pipeline",
        "2: BLOSC_COMPRESSOR in the environment: '' is none of blosclz, lz4, lz4hc, zlib, zstd. "
        "Correct it, or unset it.",
        setting("BLOSC_COMPRESSOR", ""),
    ),
    Case(
        "blosc-split-mode",
        "BLOSC_SPLITMODE=abc",
        "65: it failed on every block, on the first with error: Error -1 while compressing data. Check the pipeline",
        "2: BLOSC_SPLITMODE in the environment: 'abc' is none of ALWAYS, AUTO, FORWARD_COMPAT, NEVER. "
        "Correct it, or unset it.",
        setting("BLOSC_SPLITMODE", "abc"),
    ),
    Case(
        "blosc-level-too-high",
        "BLOSC_CLEVEL=10",
        "65: it failed on every block, on the first with error: Error -10 while compressing data. Check the pipeline",
        "2: BLOSC_CLEVEL in the environment: '10' is none of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9. Correct it, or unset it.",
        setting("BLOSC_CLEVEL", "10"),
    ),
    Case(
        "blosc-level",
        "BLOSC_CLEVEL=abc, which Blosc takes for 0",
        "0, and nothing that is kept is compressed",
        "2: BLOSC_CLEVEL in the environment: 'abc' is none of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9. Correct it, or unset it.",
        setting("BLOSC_CLEVEL", "abc"),
    ),
    Case(
        "date-of-figures",
        "SOURCE_DATE_EPOCH=abc",
        "1: the step plots: ValueError: invalid literal for int(). Please report this defect, with job.log",
        "2: SOURCE_DATE_EPOCH in the environment: 'abc' is no whole number up to 8589934592. Correct it, or unset it.",
        setting("SOURCE_DATE_EPOCH", "abc"),
    ),
    Case(
        "tqdm",
        "TQDM_NCOLS=abc",
        "1: a defect of nd-synapse, please report it, with job.log if there is one: ValueError: invalid literal for "
        "int() with base 10: 'abc', at utils.py:72",
        "1: a defect of nd-synapse, please report it, with job.log if there is one: ValueError: no number; or one of "
        "TQDM_NCOLS in the environment, which go to libraries: try without",
        suspected("TQDM_NCOLS", "abc"),
    ),
    Case(
        "zarr",
        "ZARR_ASYNC__CONCURRENCY=abc, with --source",
        "1: a defect of nd-synapse, please report it, with job.log if there is one: TypeError: '<' not supported "
        "between instances of 'str' and 'int', at locks.py:347",
        "1: a defect of nd-synapse, please report it, with job.log if there is one: ValueError: no number; or one of "
        "ZARR_ASYNC__CONCURRENCY in the environment, which go to libraries: try without",
        suspected("ZARR_ASYNC__CONCURRENCY", "abc"),
    ),
    Case(
        "memory-that-is-printed",
        "--dry-run, and then --memory of what it prints",
        "at most 972 MiB, with 2 workers; with it: they need 972 MiB of memory, 874 MiB may be used",
        "--memory 1.06 (GiB) is enough for 2 workers; with it: blocks of (32, 512, 512)",
        memory_that_is_printed,
    ),
    Case(
        "memory-that-is-refused",
        "--memory 1 is too little, and then --memory of what the error says",
        "they need 972 MiB of memory, 921 MiB may be used. With it: they need 972 MiB, 874 MiB may be used",
        "blocks of (32, 512, 512) voxels with 2 workers and 8 pulls: they need --memory 1.06, there are 1.00 "
        "GiB. Give --block-size 16,512,512. With it: (32, 512, 512)",
        memory_that_is_refused,
    ),
    Case(
        "workers",
        "--cpus 999 on four cores",
        "nothing",
        "999 workers: this machine has 4 cores; more workers take memory, and no less time",
        excess(cpus=999),
    ),
    Case(
        "more-memory-than-there-is",
        "--memory 128 where there are 64 GiB",
        "nothing",
        "128.00 GiB of memory: this machine has 64.00; what takes more is ended by the system",
        excess(memory_bytes=2**37),
    ),
    Case(
        "disk",
        "1 GiB is free for a scratch folder of more",
        "nothing",
        "the scratch takes up to 6.80 GiB, the disk of FOLDER has 1.00 free; take another folder, or hold less of it",
        excess(),
    ),
    Case(
        "line-of-a-block",
        "a block is done, standard error is no terminal",
        "1 lines without --verbose",
        "0 lines without --verbose",
        lines_of_a_block,
    ),
    Case(
        "beginning",
        "a pass over 12 blocks and the drawing of the report begin",
        "nothing",
        "detect: 12 blocks to do; drawing the report",
        beginning_of_a_step,
    ),
    Case(
        "without-proc",
        "there is no /proc",
        "1: reading what a worker process is to do: FileNotFoundError ... report it if it is a defect",
        "ValueError: it ran",
        without_proc,
    ),
    Case(
        "without-python",
        "the Python that starts workers was removed",
        "1: it was ended with exit code 255 ... something that the function calls ends its process",
        "74: starting a worker process: /no/such/python: No such file or directory. Use the Python that "
        "nd-synapse was installed for.",
        without_python,
    ),
    Case(
        "slow-worker",
        "a worker does not begin within its limit",
        "1: starting a worker process: it could not begin",
        "74: starting a worker process: it could not begin within 0 s. See what keeps the machine busy, or "
        "what the function's module does when it is imported.",
        slow_worker,
        slow=True,
    ),
    Case(
        "worker-without-memory",
        "a worker is set up where no memory is left",
        "1: setting a worker process up: MemoryError ... report it if it is a defect",
        "74: setting a worker process up: it may have no more memory. Raise the limit of ulimit -v or of the "
        "container, or use a larger machine.",
        worker_without_memory,
        slow=True,
    ),
)
"""Every case gives what it must."""
