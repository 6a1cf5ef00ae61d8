#include "test.h"

#include "spec/challenge.h"

TEST(a_bearer_challenge_is_read)
{
	static const char text[] = "Bearer realm=\"https://auth.example/token\",service=\"reg.example\", "
				   "scope=\"repository:a/b:pull,push\"";
	auto_arena a = { 0 };
	struct challenge *c;
	size_t n;
	struct err e;

	assert_ok(challenges_parse(&a, str_of(text), &c, &n, &e), e);
	assert_int_equal(n, 1);
	assert_string_equal(c->scheme, "bearer");
	assert_string_equal(c->realm, "https://auth.example/token");
	assert_string_equal(c->service, "reg.example");
	assert_string_equal(c->scope, "repository:a/b:pull,push");
	assert_null(c->error);
}

TEST(one_header_may_hold_several)
{
	auto_arena a = { 0 };
	struct challenge *c;
	size_t n;
	struct err e;

	assert_ok(challenges_parse(&a, STR("Negotiate, BASIC Realm = \"a \\\"b\\\"\" , Bearer realm=x,error=invalid_token"),
				   &c, &n, &e), e);
	assert_int_equal(n, 3);
	assert_string_equal(challenge_find(c, n, "basic")->realm, "a \"b\"");
	assert_string_equal(challenge_find(c, n, "bearer")->error, "invalid_token");
	assert_null(challenge_find(c, n, "digest"));
}

TEST(rubbish_is_refused)
{
	static const char *const bad[] = { "=", "Basic realm=\"a", "Basic realm=\"a\"b", "Basic realm=\"a\nb\"",
					   "\"Basic\"", "Basic abc==" };
	auto_arena a = { 0 };
	struct challenge *c;
	size_t n;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(challenges_parse(&a, str_of(bad[i]), &c, &n, &e), e, ERR_INVALID, "WWW-Auth");
}
