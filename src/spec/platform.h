/* Platforms of images (OCI image-index.md): which of an index's manifests is for this machine. */
#ifndef KNARR_SPEC_PLATFORM_H
#define KNARR_SPEC_PLATFORM_H

#include "base/arena.h"
#include "base/err.h"

struct platform {
	char *os, *architecture; /* "linux", "amd64"; NULL or "": not said */
	char *variant;           /* "v7", "v8", "v3"; NULL: none */
	char *os_version;        /* Windows' business: read, never compared */
};

/* This machine's, e.g. linux/amd64, linux/arm64/v8, linux/arm/v7. Static text. */
const struct platform *platform_host(void);

/* How well an image for `image` runs on `host`: 0 not at all, more is better. Names of other tools
 * (x86_64, aarch64, armhf…) are taken for the same; an arm host runs lower variants, an amd64 host
 * no higher than its own; a platform that says no architecture is a weak match. */
unsigned platform_match(const struct platform *host, const struct platform *image);

/* "linux/arm64/v8". */
char *platform_text(struct arena *a, const struct platform *p);
/* "os/arch[/variant]" as a user writes it. ERR_INVALID. */
int platform_parse(struct arena *a, const char *text, struct platform *out, struct err *e);

#endif
