/* registries.conf on disk: the file and the *.conf of the folder PATH.d beside it, in the order of their names,
 * each on top of what came before. knarrd asks it for short names, knarr-pull for hosts. Blocks on the disk. */
#ifndef KNARR_IMAGE_REGISTRIES_H
#define KNARR_IMAGE_REGISTRIES_H

#include "spec/registries_conf.h"

/* A file that is not there says nothing. ERR_INVALID: "FILE: line N: …". */
int registries_load(struct arena *a, const char *path, struct registries_conf *out, struct err *e);

/* registries_conf_names of what lies on disk now, as whole references ("docker.io/library/busybox:latest"): those
 * that `text` may mean. */
int registries_names(struct arena *a, const char *path, const char *text, struct ref **out, size_t *n, struct err *e);

/* The names in a folder, sorted, NULL-terminated; NULL where there is no such folder. */
int list_folder(struct arena *a, const char *folder, char ***out, struct err *e);

#endif
