#include "test.h"

#include "corpus.h"
#include "wire/base64.h"
#include "wire/http_head.h"

static void good(const char *name, struct str bytes)
{
	struct http_head h;
	struct err e;

	for (size_t n = 0; n <= bytes.len; n++) {
		ssize_t rc = http_head_parse(bytes.p, n, &h, &e);

		if (rc < 0)
			fail_msg("%s, %zu bytes: %s", name, n, e.msg);
		if (n == bytes.len)
			assert_true(rc > 0);
	}
}

static void bad(const char *name, struct str bytes)
{
	struct http_head h;
	struct err e;

	if (http_head_parse(bytes.p, bytes.len, &h, &e) >= 0)
		fail_msg("%s is taken", name);
}

TEST(http_good_heads_are_taken)
{
	corpus_each("http_head/good", good);
}

TEST(http_bad_heads_are_refused)
{
	corpus_each("http_head/bad", bad);
}

TEST(http_words_come_from_all_headers_of_the_name)
{
	static const char text[] = "POST /exec/ab?c=d HTTP/1.1\r\nX: a , b\r\nY: z\r\nx:,\r\nX: c\r\n\r\nrest";
	struct http_words at = { 0 };
	struct http_head h;
	struct str word;
	struct err e;

	assert_int_equal(http_head_parse(text, sizeof(text) - 1, &h, &e), sizeof(text) - 1 - 4);
	assert_true(str_eqz(h.method, "POST"));
	assert_true(str_eqz(h.path, "/exec/ab"));
	assert_true(str_eqz(h.query, "c=d"));
	for (const char *wanted = "abc"; *wanted; wanted++) {
		assert_true(http_head_word(&h, "X", &at, &word));
		assert_int_equal(word.len, 1);
		assert_int_equal(word.p[0], *wanted);
	}
	assert_false(http_head_word(&h, "X", &at, &word));
	assert_true(http_head_has(&h, "x", "B"));
	assert_false(http_head_has(&h, "x", "z"));
	assert_true(str_eqz(http_head_get(&h, "y"), "z"));
	assert_null(http_head_get(&h, "w").p);
}

static void round_trip(const char *plain, const char *coded)
{
	size_t n = strlen(plain);
	char text[64] = { 0 }, back[64];
	struct base64_reader r = { 0 };
	long got = 0;

	base64_encode(text, plain, n);
	assert_int_equal(base64_length(n), strlen(coded));
	assert_string_equal(text, coded);
	for (size_t i = 0; coded[i]; i++) {
		long piece = base64_read(&r, coded + i, 1, back + got);

		assert_true(piece >= 0);
		got += piece;
	}
	assert_int_equal(got, n);
	assert_memory_equal(back, plain, n);
	assert_true(base64_is_whole(&r));
}

TEST(base64_goes_there_and_back_in_any_pieces)
{
	round_trip("", "");
	round_trip("f", "Zg==");
	round_trip("fo", "Zm8=");
	round_trip("foo", "Zm9v");
	round_trip("foobar", "Zm9vYmFy");
	round_trip("\xff\xfe\xfd", "//79");
}

TEST(base64_refuses_what_is_none)
{
	static const char *const wrong[] = { "=", "a=", "Zg=a", "Zg===", "Z g=", "Zg==Zg==\n", "Zm9v=" };
	char out[64];

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct base64_reader r = { 0 };

		if (base64_read(&r, wrong[i], strlen(wrong[i]), out) >= 0)
			fail_msg("\"%s\" is taken", wrong[i]);
	}
	struct base64_reader cut = { 0 };

	assert_int_equal(base64_read(&cut, "Zm9vY", 5, out), 3);
	assert_false(base64_is_whole(&cut));
}
