"""`chalk-flask completion`: print the script with which a shell completes commands and options."""

from __future__ import annotations

import click

__all__ = ["completion_command"]

PROGRAM = "chalk-flask"
COMPLETION_VARIABLE = "_CHALK_FLASK_COMPLETE"
"""Environment variable with which the script asks the program for completions. click derives it from the name."""


@click.command(
    "completion",
    short_help="Print the completion script of a shell.",
    epilog="Example: chalk-flask completion bash > completion.bash",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print a script that lets a shell complete commands and options with the Tab key.

    \b
    bash  eval "$(chalk-flask completion bash)" in ~/.bashrc
    zsh   eval "$(chalk-flask completion zsh)" in ~/.zshrc, after compinit
    fish  chalk-flask completion fish > ~/.config/fish/completions/chalk-flask.fish

    The program must be on the PATH as chalk-flask.
    """
    from click.shell_completion import get_completion_class

    completion_class = get_completion_class(shell)
    assert completion_class is not None
    script = (
        completion_class.source_template
        % completion_class(ctx.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source_vars()
    )
    click.echo(script)
