r"""The console script :obj:`inertial`: one file a subcommand, each an ordinary function whose signature is the command
line (jsonargparse)."""
