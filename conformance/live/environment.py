"""What the runner tells the process of a server: names of environment variables."""

__all__ = ["ADAPTER_VARIABLE", "RUNNER_VARIABLE"]

# Where the adapter is imported from, as ``module:Class``.
ADAPTER_VARIABLE = "CONFORMANCE_ADAPTER"
# The process id of the runner, which the server must not outlive.
RUNNER_VARIABLE = "CONFORMANCE_RUNNER"
