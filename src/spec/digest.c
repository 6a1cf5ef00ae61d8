#include "spec/digest.h"

static const struct {
	const char *name;
	size_t bytes;
} algos[] = {
	[DIGEST_SHA256] = { "sha256", 32 },
	[DIGEST_SHA512] = { "sha512", 64 },
};

const char *digest_algo_name(enum digest_algo algo)
{
	return algos[algo].name;
}

size_t digest_algo_bytes(enum digest_algo algo)
{
	return algos[algo].bytes;
}

static bool hex_is_lower(struct str hex)
{
	for (size_t i = 0; i < hex.len; i++) {
		char c = hex.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
	}
	return true;
}

static int find_algo(struct str name, enum digest_algo *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(algos); i++) {
		if (!str_eqz(name, algos[i].name))
			continue;
		*out = (enum digest_algo)i;
		return 0;
	}
	return -1;
}

int digest_parse(struct str text, struct digest *out, struct err *e)
{
	struct str hex = text, name = str_cut(&hex, ':');
	enum digest_algo algo;

	/* A hostile text is shown only as far as a digest could be long. */
	if (!hex.p)
		return err_set(e, ERR_INVALID, "digest \"%.*s\" has no algorithm (sha256:HEX)",
			       (int)MIN(text.len, DIGEST_TEXT_MAX), text.p ? text.p : "");
	if (find_algo(name, &algo) < 0)
		return err_set(e, ERR_INVALID,
			       "digest \"%.*s\": only sha256 and sha512 are supported",
			       (int)MIN(text.len, DIGEST_TEXT_MAX), text.p);
	if (hex.len != 2 * algos[algo].bytes || !hex_is_lower(hex))
		return err_set(e, ERR_INVALID, "digest \"%.*s\": %s must be %zu lower-case hex digits",
			       (int)MIN(text.len, DIGEST_TEXT_MAX), text.p, algos[algo].name,
			       2 * algos[algo].bytes);
	*out = (struct digest){ algo, hex };
	return 0;
}

int digest_check(const char *text, struct err *e)
{
	struct digest d;

	return digest_parse(str_of(text ? text : ""), &d, e);
}

bool digest_is_valid(const char *text)
{
	struct err e;

	return digest_check(text, &e) == 0;
}

const char *digest_hex(const char *text)
{
	const char *colon = strchr(text, ':');

	BUG_ON(!colon);
	return colon + 1;
}

void digest_format(enum digest_algo algo, const void *hash, char out[DIGEST_TEXT_MAX])
{
	size_t n = strlen(algos[algo].name);

	memcpy(out, algos[algo].name, n);
	out[n] = ':';
	hex_encode(out + n + 1, hash, algos[algo].bytes);
}
