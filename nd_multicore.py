"""Any function on every block of a volume: the historical module; the code is in `nd_synapse.multicore`.

python -m nd_multicore neurodata.cfg package.module:function
"""

from nd_synapse.console import startup

if __name__ == "__main__":
    startup.begin()

from nd_synapse.multicore.historical import Block, BlockFunction, compute_blocks, get_data, job
from nd_synapse.multicore.results import Results
from nd_synapse.multicore.run import run_parallel

__all__ = ["Block", "BlockFunction", "Results", "compute_blocks", "get_data", "job", "run_parallel"]

if __name__ == "__main__":
    from nd_synapse.cli import multicore
    from nd_synapse.console import app

    app.end(multicore.main(prog="nd_multicore"))
