/* Image references as docker, containerd and kubelet write them (the grammar of
 * github.com/distribution/reference): [domain[:port]/]path[:tag][@digest].
 *
 * Parsing normalises: no domain means docker.io, a docker.io path of one part gets "library/",
 * index.docker.io is docker.io, neither tag nor digest means :latest. Where a digest is given the
 * tag beside it says nothing more and is dropped, as containerd does. */
#ifndef KNARR_SPEC_REF_H
#define KNARR_SPEC_REF_H

#include "base/arena.h"
#include "base/err.h"

struct ref {
	char *domain; /* "docker.io", "localhost:5000", "[::1]:5000" */
	char *path;   /* "library/busybox" */
	char *tag;    /* NULL where digest is set */
	char *digest; /* "sha256:…", or NULL */
};

enum { REF_NAME_MAX = 255, REF_TAG_MAX = 128 };

/* ERR_INVALID names the reference and what is wrong with it. */
int ref_parse(struct arena *a, const char *text, struct ref *out, struct err *e);

char *ref_name(struct arena *a, const struct ref *r);     /* "docker.io/library/busybox" */
char *ref_text(struct arena *a, const struct ref *r);     /* "docker.io/library/busybox:1", or "…@sha256:…" */
char *ref_familiar(struct arena *a, const struct ref *r); /* "busybox:1": what a person writes */
/* The same repository by digest: "docker.io/library/busybox@sha256:…". */
char *ref_with_digest(struct arena *a, const struct ref *r, const char *digest);

#endif
