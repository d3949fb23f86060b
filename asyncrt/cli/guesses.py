"""What people type who know another tool, and how it is called here."""

from __future__ import annotations

COMMANDS = {
    "destroy": "'asyncrt delete' removes a container",
    "help": "'asyncrt --help' lists the commands",
    "info": "'asyncrt doctor' tells of the machine, 'asyncrt features' of what can be configured",
    "inspect": "'asyncrt state' shows a container",
    "remove": "'asyncrt delete' removes a container",
    "restart": "a container runs once: 'asyncrt delete' it, and 'asyncrt run' it again",
    "rm": "'asyncrt delete' removes a container",
    "stats": "'asyncrt events --stats' shows what a container uses",
    "top": "'asyncrt ps' shows a container's processes",
    "unpause": "'asyncrt resume' lets a paused container go on",
    "version": "'asyncrt --version' shows it",
}

OPTIONS = {
    "--name": "the id is a word of its own, in front of --",
    "--rm": "a container goes with its program in 'do' and 'run', unless --keep or --detach spares it",
    "--workdir": "--cwd is the program's working directory",
}
