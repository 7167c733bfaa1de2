"""What stops a program before it has started, for a reason that its operator can put right."""


class CannotStartError(Exception):
    """The message is for people, for example `cannot listen on 127.0.0.1:1080: Address already in use`.

    `servicekit.run.run` logs it as one line without a traceback and exits 1.
    """
