/* SHA-256, by OpenSSL, whose headers clash with base/err.h and stay in sha256.c. Cannot fail: where
 * the library has no SHA-256 the program stops. For knarr-pull and knarr-unpack, never knarrd. */
#ifndef KNARR_IMAGE_SHA256_H
#define KNARR_IMAGE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32 };

struct sha256;

struct sha256 *sha256_new(void);
void sha256_free(struct sha256 *s); /* NULL is fine */
void sha256_add(struct sha256 *s, const void *bytes, size_t n);
/* The sum; the object can then only be freed. */
void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES]);

/* Does now what OpenSSL opens and allocates at its first use. */
void sha256_warm_up(void);

#endif
