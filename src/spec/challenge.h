/* WWW-Authenticate (RFC 9110 section 11.6.1), as registries send it: what a client must show to be let
 * in. One header may hold several challenges. Pure; everything lives in the arena. */
#ifndef KNARR_SPEC_CHALLENGE_H
#define KNARR_SPEC_CHALLENGE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum { CHALLENGES_MAX = 16, CHALLENGE_TEXT_MAX = 16384 };

struct challenge {
	char *scheme; /* lower case: "basic", "bearer" */
	char *realm, *service, *scope, *error; /* NULL: not said */
};

/* ERR_INVALID: not a list of challenges, or too long. */
int challenges_parse(struct arena *a, struct str text, struct challenge **out, size_t *n, struct err *e);
/* The challenge with this scheme, NULL: none. */
const struct challenge *challenge_find(const struct challenge *c, size_t n, const char *scheme);

#endif
