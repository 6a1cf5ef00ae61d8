/* SHA-256 for the verbs that make or check content. libcrypto is loaded when the first one asks: the others start without
 * it. One thread's. */
#ifndef KNARR_CLI_HASH_H
#define KNARR_CLI_HASH_H

#include "base/err.h"
#include "base/str.h"
#include "spec/digest.h"

struct hash;

/* The caller owns *out. ERR_SYSTEM: there is no libcrypto. */
int hash_new(struct hash **out, struct err *e);
void hash_free(struct hash **h); /* NULL is fine */
#define auto_hash AUTO(hash_free) struct hash *
void hash_add(struct hash *h, const void *bytes, size_t n);
/* "sha256:…"; the hash can then only be freed. */
void hash_end(struct hash *h, char out[DIGEST_TEXT_MAX]);

/* The digest of a text, in the arena. */
int hash_text(struct arena *a, struct str text, char **out, struct err *e);
/* The digest of `size` bytes of a file from `offset` on. ERR_DATA_LOSS: it ends earlier. */
int hash_file(struct arena *a, int fd, int64_t offset, int64_t size, char **out, struct err *e);

#endif
