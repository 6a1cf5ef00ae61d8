/* The configuration document of an image (OCI image spec config.md; Docker's differs by a few fields
 * that OCI leaves out: Healthcheck, OnBuild, Shell…). Its digest is the image's ID.
 *
 * Read strictly where it matters for running (platform, diff IDs, types), and indifferent to unknown
 * keys. Everything lives in the arena. */
#ifndef KNARR_SPEC_IMAGE_CONFIG_H
#define KNARR_SPEC_IMAGE_CONFIG_H

#include "base/json.h"
#include "spec/platform.h"

enum { IMAGE_CONFIG_MAX = 4 << 20, IMAGE_LAYERS_MAX = 1000 };

struct image_history {
	char *created, *created_by, *author, *comment;
	bool empty_layer;
};

struct image_config {
	struct platform platform;
	char *created, *author;    /* RFC 3339; NULL: not said */
	char **env;                /* "NAME=value"; values may hold any bytes but NUL */
	char **entrypoint, **cmd;
	char *user;                /* "user", "uid", "user:group", "uid:gid"…; NULL: root */
	char *workdir;             /* NULL: "/" */
	char *stop_signal;         /* "SIGTERM", "15"; NULL: the default */
	char **volumes;            /* paths, in the document's order; NULL: none */
	char **exposed_ports;      /* "80/tcp" */
	char **shell;              /* Docker only; for information */
	struct json_map labels;
	char **diff_ids;           /* the uncompressed layers' digests, lowest first; never NULL */
	struct json_vec history;   /* of struct image_history */
};

/* Parses and checks: rootfs.type is "layers", each diff ID a digest, at most IMAGE_LAYERS_MAX of them.
 * ERR_INVALID names line, column and field. */
int image_config_parse(struct arena *a, struct str text, struct image_config *out, struct err *e);

#endif
