#include "test.h"

#include "base/str.h"
#include "spec/platform.h"

static unsigned match(const char *host, const char *image)
{
	auto_arena a = { 0 };
	struct platform h, i;
	struct err e;

	assert_ok(platform_parse(&a, host, &h, &e), e);
	assert_ok(platform_parse(&a, image, &i, &e), e);
	return platform_match(&h, &i);
}

TEST(a_platform_matches_itself_and_its_other_names)
{
	assert_true(match("linux/amd64/v3", "linux/amd64"));
	assert_true(match("linux/amd64/v3", "linux/x86_64"));
	assert_true(match("linux/arm64/v8", "linux/arm64"));
	assert_true(match("linux/arm64/v8", "linux/aarch64"));
	assert_true(match("linux/arm/v7", "linux/armhf"));
}

TEST(what_this_machine_cannot_run_does_not_match)
{
	assert_false(match("linux/amd64", "linux/arm64"));
	assert_false(match("linux/amd64", "windows/amd64"));
	assert_false(match("linux/amd64/v2", "linux/amd64/v3"));
	assert_false(match("linux/arm/v6", "linux/arm/v7"));
	assert_false(match("linux/arm64/v8", "linux/arm64/v9"));
	assert_false(match("linux/amd64", "linux/amd64/strange"));
	assert_false(match("linux/arm/v7", "linux/arm64"));
}

TEST(the_better_variant_wins)
{
	assert_true(match("linux/arm/v7", "linux/arm/v7") > match("linux/arm/v7", "linux/arm/v6"));
	assert_true(match("linux/amd64/v3", "linux/amd64/v3") > match("linux/amd64/v3", "linux/amd64"));
	assert_true(match("linux/arm64/v8", "linux/arm64") > match("linux/arm64/v8", "linux/arm/v7"));
	assert_true(match("linux/amd64", "linux/amd64") > match("linux/amd64", "linux/386"));
}

TEST(no_architecture_is_a_weak_match_and_os_version_is_not_compared)
{
	struct platform nothing = { 0 }, host = *platform_host();

	assert_true(platform_match(&host, &nothing) > 0);
	assert_true(platform_match(&host, &nothing) < platform_match(&host, &host));
	host.os_version = (char *)"10.0.1";
	assert_int_equal(platform_match(platform_host(), &host), platform_match(&host, &host));
}

TEST(platforms_are_written_and_read)
{
	auto_arena a = { 0 };
	static const char *const bad[] = { "", "linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d" };
	struct platform p;
	struct err e;

	assert_ok(platform_parse(&a, "linux/arm/v7", &p, &e), e);
	assert_string_equal(platform_text(&a, &p), "linux/arm/v7");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(platform_parse(&a, bad[i], &p, &e), e, ERR_INVALID, "OS/ARCH");
}
