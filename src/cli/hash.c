#include "cli/hash.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, SHA256_BYTES = 32 };

/* What is used of the library (EVP, OpenSSL 3), by its own names and without its headers. */
struct hash {
	void *library, *ctx;
	int (*update)(void *ctx, const void *bytes, size_t n);
	int (*final)(void *ctx, unsigned char *sum, unsigned *n);
	void (*free_ctx)(void *ctx);
};

static void *function(void *library, const char *name, struct err *e)
{
	void *f = dlsym(library, name);

	if (!f)
		(void)err_set(e, ERR_SYSTEM, "libcrypto.so.3 has no %s", name);
	return f;
}

static int begin(struct hash *h, struct err *e)
{
	void *(*new_ctx)(void) = NULL;
	const void *(*sha256)(void) = NULL;
	int (*init)(void *ctx, const void *type, void *engine) = NULL;

	h->library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
	if (!h->library)
		return err_set(e, ERR_SYSTEM, "SHA-256: %s", dlerror());
	*(void **)&new_ctx = function(h->library, "EVP_MD_CTX_new", e);
	*(void **)&h->free_ctx = function(h->library, "EVP_MD_CTX_free", e);
	*(void **)&sha256 = function(h->library, "EVP_sha256", e);
	*(void **)&init = function(h->library, "EVP_DigestInit_ex", e);
	*(void **)&h->update = function(h->library, "EVP_DigestUpdate", e);
	*(void **)&h->final = function(h->library, "EVP_DigestFinal_ex", e);
	if (!new_ctx || !h->free_ctx || !sha256 || !init || !h->update || !h->final)
		return -1;
	h->ctx = new_ctx();
	return h->ctx && init(h->ctx, sha256(), NULL) == 1 ? 0 : err_set(e, ERR_SYSTEM, "libcrypto has no SHA-256");
}

int hash_new(struct hash **out, struct err *e)
{
	auto_hash h = mem_new0(struct hash);

	if (begin(h, e) < 0)
		return -1;
	*out = h;
	h = NULL;
	return 0;
}

/* The library stays loaded: the next one comes soon. */
void hash_free(struct hash **h)
{
	if (*h && (*h)->ctx)
		(*h)->free_ctx((*h)->ctx);
	mem_free(*h);
	*h = NULL;
}

void hash_add(struct hash *h, const void *bytes, size_t n)
{
	BUG_ON(h->update(h->ctx, bytes, n) != 1);
}

void hash_end(struct hash *h, char out[DIGEST_TEXT_MAX])
{
	unsigned char sum[SHA256_BYTES];
	unsigned n = sizeof(sum);

	BUG_ON(h->final(h->ctx, sum, &n) != 1 || n != sizeof(sum));
	digest_format(DIGEST_SHA256, sum, out);
}

int hash_text(struct arena *a, struct str text, char **out, struct err *e)
{
	char digest[DIGEST_TEXT_MAX];
	auto_hash h = NULL;

	if (hash_new(&h, e) < 0)
		return -1;
	hash_add(h, text.p, text.len);
	hash_end(h, digest);
	*out = arena_strdup(a, digest);
	return 0;
}

int hash_file(struct arena *a, int fd, int64_t offset, int64_t size, char **out, struct err *e)
{
	auto_arena scratch = { 0 };
	char *bytes = arena_alloc(&scratch, CHUNK), digest[DIGEST_TEXT_MAX];
	auto_hash h = NULL;

	if (hash_new(&h, e) < 0)
		return -1;
	for (int64_t done = 0; done < size;) {
		ssize_t n = pread(fd, bytes, (size_t)MIN(size - done, (int64_t)CHUNK), offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? err_sys(e, errno, "read it to hash it") :
				       err_set(e, ERR_DATA_LOSS, "it ends after %lld of %lld bytes", (long long)done, (long long)size);
		hash_add(h, bytes, (size_t)n);
		done += n;
	}
	hash_end(h, digest);
	*out = arena_strdup(a, digest);
	return 0;
}
