#include "image/sha256.h"

#include "base/base.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

struct sha256 { /* an EVP_MD_CTX, by another name */
	char unused;
};

struct sha256 *sha256_new(void)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
		BUG("OpenSSL has no SHA-256");
	return (struct sha256 *)ctx;
}

void sha256_free(struct sha256 *s)
{
	EVP_MD_CTX_free((EVP_MD_CTX *)s);
}

void sha256_add(struct sha256 *s, const void *bytes, size_t n)
{
	if (EVP_DigestUpdate((EVP_MD_CTX *)s, bytes, n) != 1)
		BUG("OpenSSL's SHA-256 fails");
}

void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES])
{
	if (EVP_DigestFinal_ex((EVP_MD_CTX *)s, out, NULL) != 1)
		BUG("OpenSSL's SHA-256 fails");
}

void sha256_warm_up(void)
{
	struct sha256 *s;
	uint8_t out[SHA256_BYTES];

	(void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL); /* a failure shows at once, below */
	s = sha256_new();
	sha256_end(s, out);
	sha256_free(s);
}
