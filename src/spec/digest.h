/* A digest as text: "sha256:" and 64, or "sha512:" and 128 lower-case hex digits (OCI image spec,
 * descriptor.md#digests). Everywhere in knarr a digest is this text, checked once where it enters.
 * Nothing here hashes, allocates or blocks. */
#ifndef KNARR_SPEC_DIGEST_H
#define KNARR_SPEC_DIGEST_H

#include "base/err.h"
#include "base/str.h"

enum digest_algo { DIGEST_SHA256, DIGEST_SHA512 };

enum { DIGEST_TEXT_MAX = sizeof("sha512:") + 128 }; /* with the NUL */

struct digest {
	enum digest_algo algo;
	struct str hex; /* within the text that was parsed */
};

/* ERR_INVALID names the text and what is wrong with it. */
int digest_parse(struct str text, struct digest *out, struct err *e);
int digest_check(const char *text, struct err *e); /* NULL is invalid too */
bool digest_is_valid(const char *text);

/* "sha256" or "sha512". */
const char *digest_algo_name(enum digest_algo algo);
/* How many bytes the hash has: 32 or 64. */
size_t digest_algo_bytes(enum digest_algo algo);
/* What follows the colon; the text must be valid. */
const char *digest_hex(const char *text);
/* The text of a hash. */
void digest_format(enum digest_algo algo, const void *hash, char out[DIGEST_TEXT_MAX]);

#endif
