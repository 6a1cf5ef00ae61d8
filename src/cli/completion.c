/* knarr completion: what a shell needs to complete verbs and names, made of the table of verbs. */
#include "cli/image_verbs.h"

#include <stdio.h>

static void words(const struct verb *verbs)
{
	for (const struct verb *v = verbs; v->name; v++)
		printf("%s%s", v == verbs ? "" : " ", v->name);
}

/* Verbs, then verbs of image, then images or containers. */
static void bash(void)
{
	puts("# bash completion of knarr: source <(knarr completion bash)");
	fputs("_knarr() {\n\tlocal word=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} words\n"
	      "\tif [ \"$COMP_CWORD\" = 1 ]; then words=\"", stdout);
	words(cli_verbs);
	fputs("\"\n\telif [ \"$verb\" = image ] && [ \"$COMP_CWORD\" = 2 ]; then words=\"", stdout);
	words(image_verbs);
	fputs("\"\n\telse case $verb in\n"
	      "\t\tcompletion) words=\"bash zsh fish\" ;;\n"
	      "\t\timage | run | rmi | tag | push) words=$(knarr image ls -o name 2>/dev/null) ;;\n"
	      "\t\t*) words=$(knarr ps -a -q 2>/dev/null) ;;\n"
	      "\tesac; fi\n"
	      "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
	      "\t[ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$word\"))\n"
	      "}\ncomplete -F _knarr knarr\n", stdout);
}

static void zsh(void)
{
	puts("#compdef knarr\n# zsh completion of knarr: source <(knarr completion zsh)\nautoload -U +X bashcompinit && bashcompinit");
	bash();
}

/* A quote within single quotes. */
static void fish_text(const char *s)
{
	putchar('\'');
	for (; *s; s++)
		printf(*s == '\'' || *s == '\\' ? "\\%c" : "%c", *s);
	putchar('\'');
}

static void fish(void)
{
	puts("# fish completion of knarr: knarr completion fish | source");
	for (const struct verb *v = cli_verbs; v->name; v++) {
		printf("complete -c knarr -n __fish_use_subcommand -f -a %s -d ", v->name);
		fish_text(v->help);
		putchar('\n');
	}
	for (const struct verb *v = image_verbs; v->name; v++) {
		printf("complete -c knarr -n '__fish_seen_subcommand_from image' -f -a %s -d ", v->name);
		fish_text(v->help);
		putchar('\n');
	}
	puts("complete -c knarr -n '__fish_seen_subcommand_from image run rmi tag push' -a '(knarr image ls -o name 2>/dev/null)'\n"
	     "complete -c knarr -n '__fish_seen_subcommand_from logs exec attach stop rm inspect stats port-forward' "
	     "-f -a '(knarr ps -a -q 2>/dev/null)'");
}

int verb_completion(struct cli *cli, char *const *argv, struct err *e)
{
	static const struct {
		const char *name;
		void (*print)(void);
	} shells[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };
	static const struct opt opts[] = { { 0 } };
	const char *shell;
	char **rest;
	int rc = cli_options(cli, "completion", opts, 0, argv, &rest, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (cli_one_word(rest, "the shell", &shell, e) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
		if (streq(shells[i].name, shell)) {
			shells[i].print();
			return 0;
		}
	return err_set(e, ERR_INVALID, "knarr completion %s: it knows bash, zsh and fish", shell);
}
