/* An image that is made here, of one layer: its configuration as options say, its name, and where it goes. For
 * `image import` and `image from-dir`. The same options and the same layer give the same bytes. */
#ifndef KNARR_CLI_IMAGE_MADE_H
#define KNARR_CLI_IMAGE_MADE_H

#include "cli/bundle.h"

#define MADE_LAYER "application/vnd.oci.image.layer.v1.tar"

struct made {
	struct cli *cli;
	const char *step;      /* what the history says made it */
	/* by made_options() */
	const char *cmd, *entrypoint, *workdir, *user, *stop_signal, *platform, *created_text;
	char **tags, **env, **labels, **expose, **volumes;
	int64_t created_s;     /* --created, else SOURCE_DATE_EPOCH, else 0 */
	/* by made_name() */
	char **names;          /* whole references; NULL: none */
};

/* The options of both; `own`: more of the verb's (ends as opts do), NULL: none. 1: help was shown. */
int made_options(struct made *m, const char *verb, const struct opt *own, char *const *argv, char ***words, struct err *e);
/* At most one word is left, a name beside those of --tag. */
int made_name(struct made *m, char *const *words, struct err *e);
/* Writes configuration and manifest, hands the image on, and says what it is called. */
int made_finish(struct made *m, struct bundle *b, const struct part *layer, struct err *e);

#endif
