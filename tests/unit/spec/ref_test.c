#include "test.h"

#include "base/str.h"
#include "spec/ref.h"

#define SHA "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
	const char *text, *full, *familiar;
} good[] = {
	{ "busybox", "docker.io/library/busybox:latest", "busybox:latest" },
	{ "busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36" },
	{ "docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest" },
	{ "index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest" },
	{ "user/app:x", "docker.io/user/app:x", "user/app:x" },
	{ "docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest" },
	{ "localhost/app", "localhost/app:latest", "localhost/app:latest" },
	{ "localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1" },
	{ "127.0.0.1:5000/app", "127.0.0.1:5000/app:latest", "127.0.0.1:5000/app:latest" },
	{ "[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest" },
	{ "[2001:db8::1]/a/b:t", "[2001:db8::1]/a/b:t", "[2001:db8::1]/a/b:t" },
	{ "registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10" },
	{ "Registry/app", "Registry/app:latest", "Registry/app:latest" },
	{ "localhost:5000", "docker.io/library/localhost:5000", "localhost:5000" },
	{ "a@" SHA, "docker.io/library/a@" SHA, "a@" SHA },
	{ "a:tag@" SHA, "docker.io/library/a@" SHA, "a@" SHA },
	{ "quay.io/a/b__c/d---e.f_g", "quay.io/a/b__c/d---e.f_g:latest", "quay.io/a/b__c/d---e.f_g:latest" },
	{ "x:_.-T", "docker.io/library/x:_.-T", "x:_.-T" },
};

TEST(references_are_normalised)
{
	auto_arena a = { 0 };
	struct ref r;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_ok(ref_parse(&a, good[i].text, &r, &e), e);
		assert_string_equal(ref_text(&a, &r), good[i].full);
		assert_string_equal(ref_familiar(&a, &r), good[i].familiar);
		assert_ok(ref_parse(&a, ref_text(&a, &r), &r, &e), e);
		assert_string_equal(ref_text(&a, &r), good[i].full);
		assert_true((r.tag == NULL) != (r.digest == NULL));
	}
}

static const char *const bad[] = {
	"", " ", "/", "a/", "/a", "a//b", ":tag", "a:", "a:.x", "a:-x", "a:b:c", "A", "lib/App",
	"a b", "a\n", "a_", "_a", "a___b", "a..b", "a/-b", "a@", "a@sha256:", "a@sha256:12",
	"a@md5:0123456789abcdef0123456789abcdef", "a@" SHA "0", "host.x:port/a", "host.x:99999/a",
	"[::1/a", "[]/a", "[::g]/a", "-h.x/a", "h-.x/a", "h..x/a", "https://registry.k8s.io/pause",
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "quay.io/a/d-_-e", "\xff/a",
};

TEST(what_is_no_reference_is_refused)
{
	auto_arena a = { 0 };
	struct ref r;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (ref_parse(&a, bad[i], &r, &e) == 0)
			fail_msg("\"%s\" was taken as %s", bad[i], ref_text(&a, &r));
		assert_int_equal(e.kind, ERR_INVALID);
	}
}

TEST(a_name_has_at_most_255_characters)
{
	auto_arena a = { 0 };
	char text[300];
	struct ref r;
	struct err e;

	memset(text, 'a', sizeof(text));
	memcpy(text, "quay.io/", 8);
	text[255] = '\0';
	assert_ok(ref_parse(&a, text, &r, &e), e);
	text[255] = 'a';
	text[256] = '\0';
	assert_err(ref_parse(&a, text, &r, &e), e, ERR_INVALID, "255");
}

TEST(an_upper_case_repository_is_told_so)
{
	auto_arena a = { 0 };
	struct ref r;
	struct err e;

	assert_err(ref_parse(&a, "quay.io/App", &r, &e), e, ERR_INVALID, "lower case");
}
