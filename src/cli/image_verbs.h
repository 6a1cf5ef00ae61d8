/* The verbs below `knarr image`. */
#ifndef KNARR_CLI_IMAGE_VERBS_H
#define KNARR_CLI_IMAGE_VERBS_H

#include "cli/cli.h"

extern const struct verb image_verbs[]; /* ends with a name of NULL */

int verb_image_inspect(struct cli *cli, char *const *argv, struct err *e);
int verb_image_history(struct cli *cli, char *const *argv, struct err *e);
int verb_image_tree(struct cli *cli, char *const *argv, struct err *e);
int verb_image_du(struct cli *cli, char *const *argv, struct err *e);
int verb_image_verify(struct cli *cli, char *const *argv, struct err *e);
int verb_image_save(struct cli *cli, char *const *argv, struct err *e);
int verb_image_load(struct cli *cli, char *const *argv, struct err *e);
int verb_image_push(struct cli *cli, char *const *argv, struct err *e);
int verb_image_copy(struct cli *cli, char *const *argv, struct err *e);
int verb_image_import(struct cli *cli, char *const *argv, struct err *e);
int verb_image_from_dir(struct cli *cli, char *const *argv, struct err *e);

#endif
