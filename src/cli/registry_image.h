/* Images of registries, as a source and a sink of bundles. The command has a knarr-pull of its own for that, in its
 * sandbox, with the registries' settings of knarrd's configuration; no knarrd need run, and no root is needed. */
#ifndef KNARR_CLI_REGISTRY_IMAGE_H
#define KNARR_CLI_REGISTRY_IMAGE_H

#include "cli/bundle.h"

struct registry_login {
	const char *creds;    /* "USER:PASSWORD"; NULL: from a file */
	const char *authfile; /* NULL: $REGISTRY_AUTH_FILE, containers' auth.json, docker's config.json */
};

/* The image for this platform into files without names in $TMPDIR. Its name is in b->names. */
int registry_read(struct cli *cli, struct bundle *b, const char *reference, const struct registry_login *login,
		  const struct platform *platform, struct err *e);
/* Blobs first, then the manifest by the reference's tag (or digest, which must be its own). What the registry has is not
 * sent. `from`: a repository that the bundle came from, "registry/path", NULL: none. */
int registry_write(struct cli *cli, struct bundle *b, const char *reference, const struct registry_login *login,
		   const char *from, struct err *e);

/* Credentials for a repository, as the files have them. NULL members: none. */
struct registry_auth {
	char *username, *password, *auth, *identity_token;
};
int registry_auth_find(struct arena *a, const char *domain, const char *path, const struct registry_login *login,
		       struct registry_auth *out, struct err *e);

#endif
