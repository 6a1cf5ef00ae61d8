/* Command-line options as a table. "--name value", "--name=value", "-n value"; "--" ends them;
 * options and words may be mixed unless OPTS_STOP_AT_WORD. */
#ifndef KNARR_BASE_OPT_H
#define KNARR_BASE_OPT_H

#include "base/arena.h"
#include "base/err.h"

enum opt_kind {
	OPT_END,
	OPT_FLAG,   /* bool * */
	OPT_STR,    /* const char ** */
	OPT_STRV,   /* char *** : may be given several times */
	OPT_I64,    /* int64_t * */
	OPT_BYTES,  /* int64_t * : 512m, 1Gi, 1024 */
	OPT_DURATION, /* int64_t * nanoseconds: 10s, 1m30s; a bare number is seconds */
};

struct opt {
	enum opt_kind kind;
	char letter;       /* 0: none */
	const char *name;  /* without dashes; NULL: only a letter */
	void *out;
	const char *arg;   /* the value's name in help, e.g. "PATH" */
	const char *help;  /* one sentence */
};

enum { OPTS_STOP_AT_WORD = BIT(0) };

/* Parses argv[1..]. *words: what is no option, NULL-terminated, in the arena. ERR_INVALID names the
 * option. */
int opts_parse(struct arena *a, const struct opt *opts, int flags, char *const *argv, char ***words,
	       struct err *e);
/* The options' part of a help text, in columns. */
char *opts_help(struct arena *a, const struct opt *opts);

/* "512m", "1.5Gi", "1024": bytes. k, m, g, t and Ki, Mi, Gi, Ti are powers of 1024; kB, MB, GB of 1000. */
int opt_parse_bytes(const char *text, int64_t *out, struct err *e);

#endif
