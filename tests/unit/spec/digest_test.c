#include "test.h"

#include "spec/digest.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

TEST(sha256_and_sha512_are_digests)
{
	struct digest d;
	struct err e;

	assert_ok(digest_parse(STR("sha256:" HEX64), &d, &e), e);
	assert_int_equal(d.algo, DIGEST_SHA256);
	assert_true(str_eqz(d.hex, HEX64));
	assert_ok(digest_parse(STR("sha512:" HEX64 HEX64), &d, &e), e);
	assert_int_equal(d.algo, DIGEST_SHA512);
	assert_string_equal(digest_hex("sha256:" HEX64), HEX64);
}

TEST(anything_else_is_not)
{
	static const char *const bad[] = {
		"", "sha256", "sha256:", "sha256:" HEX64 "0", "sha256:0" "123", "sha512:" HEX64,
		"SHA256:" HEX64, "md5:0123456789abcdef0123456789abcdef", ":" HEX64,
		"sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
		"sha256:../3456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	};
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(digest_check(bad[i], &e), e, ERR_INVALID, "digest");
	assert_err(digest_check(NULL, &e), e, ERR_INVALID, "digest");
}

TEST(a_hash_is_written_as_text)
{
	unsigned char hash[64] = { 0x01, 0xff };
	char text[DIGEST_TEXT_MAX];

	digest_format(DIGEST_SHA256, hash, text);
	assert_true(digest_is_valid(text));
	assert_memory_equal(text, "sha256:01ff00", 13);
	digest_format(DIGEST_SHA512, hash, text);
	assert_true(digest_is_valid(text));
	assert_int_equal(strlen(text), DIGEST_TEXT_MAX - 1);
}
