"""The scripts that make a shell complete the arguments of `afk`.

Each asks `afk` itself, and gets a line for each candidate: its kind, its value and its help. What answers is
`afkcli.commands.completing`.

Since: 0.2.
"""

from __future__ import annotations

_BASH = r"""
_afk_completion() {
    local kind value help
    local -a values=() helps=()
    COMPREPLY=()
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            file) compopt -o default -o filenames 2>/dev/null; return ;;
            part) compopt -o nospace 2>/dev/null ;;
        esac
        values+=("$value")
        helps+=("$help")
    done < <(_AFK_COMPLETE=bash "$1" "${COMP_LINE:0:$COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    local count=${#values[@]} at longest=0
    # readline lists the candidates: then each is shown with its help, which is not inserted
    if ((count > 1)) && [[ $COMP_TYPE == 63 || $COMP_TYPE == 33 || $COMP_TYPE == 64 ]]; then
        for value in "${values[@]}"; do ((${#value} > longest)) && longest=${#value}; done
        for ((at = 0; at < count; at++)); do
            value=${values[at]}
            if [[ -n ${helps[at]} ]] && ((longest + 6 < ${COLUMNS:-80})); then
                printf -v value '%-*s  (%s' "$longest" "$value" "${helps[at]}"
                value="${value:0:${COLUMNS:-80}-2})"
            fi
            COMPREPLY+=("$value")
        done
    else
        COMPREPLY=("${values[@]}")
    fi
}
complete -o nosort -F _afk_completion afk 2>/dev/null || complete -F _afk_completion afk
"""

_ZSH = r"""
#compdef afk
_afk_completion() {
    local kind value help
    local -a plain plain_shown part part_shown other other_shown
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            file)
                [[ $value == -* ]] && [[ $value != - ]] && compset -P '*='
                _files
                return
                ;;
            part) part+=("$value"); part_shown+=("$value${help:+  -- $help}") ;;
            *)
                if [[ $value == "${(Q)PREFIX}"* ]]; then
                    plain+=("$value"); plain_shown+=("$value${help:+  -- $help}")
                else
                    other+=("$value"); other_shown+=("$value${help:+  -- $help}")
                fi
                ;;
        esac
    done < <(_AFK_COMPLETE=zsh "${(Q)words[1]}" "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    (($#plain)) && compadd -V afk -l -d plain_shown -a -- plain
    (($#part)) && compadd -V afk -l -S '' -d part_shown -a -- part
    (($#other)) && compadd -U -V afk -l -d other_shown -a -- other
    (($#plain + $#part + $#other))
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _afk_completion "$@"
else
    (($+functions[compdef])) || { autoload -Uz compinit && compinit }
    compdef _afk_completion afk
fi
"""

_FISH = r"""
function _afk_completion
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    for line in (env _AFK_COMPLETE=fish $program $words "$typed" 2>/dev/null)
        set -l item (string split \t -- $line)
        if test "$item[1]" = file
            set -l path (string replace -r -- '^--[^=]*=' '' "$typed")
            set -l prefix (string match -r -- '^--[^=]*=' "$typed")
            for file in (__fish_complete_path $path)
                echo "$prefix$file"
            end
        else if test -n "$item[3]"
            printf '%s\t%s\n' $item[2] $item[3]
        else
            echo $item[2]
        end
    end
end
complete --command afk --no-files --keep-order --arguments '(_afk_completion)'
"""

SCRIPTS = {"bash": _BASH.lstrip("\n"), "zsh": _ZSH.lstrip("\n"), "fish": _FISH.lstrip("\n")}
"""By the name of the shell."""

START_FILES = {
    "bash": ("~/.bashrc", 'eval "$(afk completion bash)"'),
    "zsh": ("~/.zshrc", 'eval "$(afk completion zsh)"'),
    "fish": ("~/.config/fish/config.fish", "afk completion fish | source"),
}
"""By the name of the shell, the file that it reads at its start, and the line for it."""
