#include "test.h"

#include "base/opt.h"
#include "base/str.h"

TEST(cutting_gives_every_piece_also_the_empty_ones)
{
	struct str rest = STR("a,,b,");
	const char *const want[] = { "a", "", "b", "" };
	size_t n = 0;

	while (rest.p) {
		struct str piece = str_cut(&rest, ',');

		assert_true(n < ARRAY_SIZE(want));
		assert_true(str_eqz(piece, want[n++]));
	}
	assert_int_equal(n, 4);
}

TEST(numbers_are_whole_and_in_range)
{
	static const char *const bad[] = { "", "-", "1x", " 1", "9223372036854775808", "-9223372036854775809", "+1" };
	struct err e;
	int64_t v;
	uint64_t u;

	assert_ok(str_to_i64(STR("-9223372036854775808"), &v, &e), e);
	assert_true(v == INT64_MIN);
	assert_ok(str_to_u64(STR("18446744073709551615"), &u, &e), e);
	assert_true(u == UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(str_to_i64(str_of(bad[i]), &v, &e), -1);
}

TEST(bytes_that_are_not_utf8_become_replacement_characters)
{
	auto_arena a = { 0 };

	assert_string_equal(utf8_clean(&a, "ok\xc3\xa4"), "ok\xc3\xa4");
	assert_string_equal(utf8_clean(&a, "x\xffy\xed\xa0\x80"), "x\xef\xbf\xbdy\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	assert_false(utf8_valid("\xc0\xaf", 2));
	assert_false(utf8_valid("\xf4\x90\x80\x80", 4));
}

TEST(an_id_is_64_hex_digits_and_never_the_same)
{
	char one[ID_HEX_LEN + 1], two[ID_HEX_LEN + 1];

	id_new(one);
	id_new(two);
	assert_true(id_is_valid(one));
	assert_string_not_equal(one, two);
	assert_false(id_is_valid("abc"));
}

TEST(hex_goes_both_ways)
{
	unsigned char bytes[4];
	char text[9];
	struct err e;

	assert_ok(hex_decode(bytes, STR("00fFa51c"), &e), e);
	hex_encode(text, bytes, 4);
	assert_string_equal(text, "00ffa51c");
	assert_err(hex_decode(bytes, STR("0g"), &e), e, ERR_INVALID, "hexadecimal");
	assert_err(hex_decode(bytes, STR("abc"), &e), e, ERR_INVALID, "odd");
}

TEST(sizes_are_read_as_people_write_them)
{
	static const struct {
		const char *text;
		int64_t bytes;
	} good[] = { { "1024", 1024 }, { "1k", 1024 }, { "1.5Gi", 1610612736 }, { "512m", 536870912 },
		     { "1GB", 1000000000 } };
	struct err e;
	int64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_ok(opt_parse_bytes(good[i].text, &v, &e), e);
		assert_int_equal(v, good[i].bytes);
	}
	assert_err(opt_parse_bytes("12q", &v, &e), e, ERR_INVALID, "\"12q\" is not a size");
	assert_err(opt_parse_bytes("99999999999T", &v, &e), e, ERR_INVALID, "not a size");
}

struct options {
	bool all, quiet;
	const char *name;
	char **env;
	int64_t n, wait_ns;
};

static int parse(struct arena *a, struct options *o, int flags, char **words[], char *const *argv, struct err *e)
{
	const struct opt opts[] = {
		{ OPT_FLAG, 'a', "all", &o->all, NULL, "" },   { OPT_FLAG, 'q', "quiet", &o->quiet, NULL, "" },
		{ OPT_STR, 0, "name", &o->name, "NAME", "" },  { OPT_STRV, 'e', "env", &o->env, "K=V", "" },
		{ OPT_I64, 'n', NULL, &o->n, "N", "" },        { OPT_DURATION, 't', "time", &o->wait_ns, "T", "" },
		{ 0 },
	};

	*o = (struct options){ 0 };
	return opts_parse(a, opts, flags, argv, words, e);
}

TEST(options_and_words_mix)
{
	char *const argv[] = { "cmd", "-aq", "w1", "--name=x", "-e", "A=1", "--env", "B=2", "-n5", "-t", "3", "--", "-z", NULL };
	auto_arena a = { 0 };
	struct options o;
	char **words;
	struct err e;

	assert_ok(parse(&a, &o, 0, &words, argv, &e), e);
	assert_true(o.all && o.quiet);
	assert_string_equal(o.name, "x");
	assert_int_equal(strv_len(o.env), 2);
	assert_int_equal(o.n, 5);
	assert_true(o.wait_ns == 3000000000);
	assert_string_equal(words[0], "w1");
	assert_string_equal(words[1], "-z");
	assert_null(words[2]);
}

TEST(options_stop_at_the_first_word_where_wished)
{
	char *const argv[] = { "cmd", "-a", "word", "-q", NULL };
	auto_arena a = { 0 };
	struct options o;
	char **words;
	struct err e;

	assert_ok(parse(&a, &o, OPTS_STOP_AT_WORD, &words, argv, &e), e);
	assert_true(o.all && !o.quiet);
	assert_string_equal(words[1], "-q");
}

TEST(a_bad_option_is_named)
{
	char *const unknown[] = { "cmd", "--nam", NULL }, *const lacks[] = { "cmd", "--name", NULL };
	char *const number[] = { "cmd", "-n", "five", NULL };
	auto_arena a = { 0 };
	struct options o;
	char **words;
	struct err e;

	assert_err(parse(&a, &o, 0, &words, unknown, &e), e, ERR_INVALID, "unknown option --nam");
	assert_err(parse(&a, &o, 0, &words, lacks, &e), e, ERR_INVALID, "option --name needs a value");
	assert_err(parse(&a, &o, 0, &words, number, &e), e, ERR_INVALID, "option -n: \"five\" is not a number");
}
