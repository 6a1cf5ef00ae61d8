#include "test.h"

#include "base/json.h"

struct inner {
	char *name;
	int64_t n;
};

struct doc {
	char *text;
	char **words;
	bool yes;
	int32_t i32;
	uint64_t u64;
	int64_t *maybe;
	struct inner *one;
	struct json_vec many;
	struct json_map map;
	const struct json *any;
};

static const struct json_field inner_fields[] = {
	{ "name", JSON_STR, offsetof(struct inner, name), JSON_REQUIRED },
	{ "n", JSON_I64, offsetof(struct inner, n), 0 },
	{ 0 },
};

static const struct json_field doc_fields[] = {
	{ "text", JSON_STR, offsetof(struct doc, text) },
	{ "words", JSON_STRV, offsetof(struct doc, words) },
	{ "yes", JSON_BOOL, offsetof(struct doc, yes) },
	{ "i32", JSON_I32, offsetof(struct doc, i32) },
	{ "u64", JSON_U64, offsetof(struct doc, u64) },
	{ "maybe", JSON_OPT_I64, offsetof(struct doc, maybe) },
	{ "one", JSON_OBJ, offsetof(struct doc, one), 0, inner_fields, sizeof(struct inner) },
	{ "many", JSON_OBJV, offsetof(struct doc, many), 0, inner_fields, sizeof(struct inner) },
	{ "map", JSON_MAP, offsetof(struct doc, map) },
	{ "any", JSON_ANY, offsetof(struct doc, any) },
	{ 0 },
};

static int load(struct arena *a, const char *text, struct doc *d, struct err *e)
{
	*d = (struct doc){ 0 };
	return json_load(a, str_of(text), doc_fields, JSON_STRICT, d, e);
}

TEST(what_is_read_is_written_back)
{
	const char *text = "{\"text\":\"a\\\"b\\u0001\\n\",\"words\":[\"x\",\"y\"],\"yes\":true,\"i32\":-5,"
			   "\"u64\":18446744073709551615,\"maybe\":0,\"one\":{\"name\":\"n\",\"n\":-9223372036854775808},"
			   "\"many\":[{\"name\":\"p\"},{\"name\":\"q\",\"n\":3}],\"map\":{\"k\":\"v\",\"l\":\"\"},"
			   "\"any\":[1,{\"z\":null}]}";
	auto_arena a = { 0 };
	auto_buf b = BUF(10000);
	struct doc d;
	struct err e;

	assert_ok(load(&a, text, &d, &e), e);
	assert_ok(json_write(&b, doc_fields, &d, &e), e);
	assert_string_equal(buf_text(&b), text);
}

TEST(an_unknown_key_names_line_and_column)
{
	auto_arena a = { 0 };
	struct doc d;
	struct err e;

	assert_err(load(&a, "{\n  \"one\": {\"name\": \"x\",\n   \"nam\": 1}}", &d, &e), e, ERR_INVALID,
		   "one: line 3 column 11: unknown key \"nam\"");
}

TEST(an_error_names_the_field_path)
{
	auto_arena a = { 0 };
	struct doc d;
	struct err e;

	assert_err(load(&a, "{\"many\":[{\"name\":\"x\"},{\"name\":7}]}", &d, &e), e, ERR_INVALID,
		   "many[1].name: line 1 column 31: expected text, found a number");
}

TEST(bad_documents_are_refused)
{
	static const char *const bad[] = {
		"", "{", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "01", "1.", "-", "1e", "nul", "\"\\x\"", "\"\\u12\"",
		"\"\\u0000\"", "\"a\nb\"", "{\"a\":1,\"a\":2}", "1 2", "\xef\xbb\xbf{}", "\"abc", "\"\\",
	};
	auto_arena a = { 0 };
	struct json *doc;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (json_parse(&a, str_of(bad[i]), &doc, &e) == 0)
			fail_msg("was taken: %s", bad[i]);
}

TEST(nesting_is_bounded)
{
	auto_arena a = { 0 };
	char text[2001];
	struct json *doc;
	struct err e;

	memset(text, '[', 2000);
	text[2000] = '\0';
	assert_err(json_parse(&a, str_of(text), &doc, &e), e, ERR_INVALID, "too deep");
}

TEST(a_number_out_of_range_is_refused)
{
	auto_arena a = { 0 };
	struct doc d;
	struct err e;

	assert_err(load(&a, "{\"i32\":2147483648}", &d, &e), e, ERR_INVALID, "out of range");
	assert_err(load(&a, "{\"u64\":-1}", &d, &e), e, ERR_INVALID, "out of range");
	assert_err(load(&a, "{\"u64\":18446744073709551616}", &d, &e), e, ERR_INVALID, "out of range");
}

TEST(surrogate_pairs_become_one_character)
{
	auto_arena a = { 0 };
	struct doc d;
	struct err e;

	assert_ok(load(&a, "{\"text\":\"\\ud83d\\ude00\\ud800\"}", &d, &e), e);
	assert_string_equal(d.text, "\xf0\x9f\x98\x80\xef\xbf\xbd");
}
