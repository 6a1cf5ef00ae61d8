#include "test.h"

#include "base/fs.h"
#include "spec/registries_conf.h"

#include <dirent.h>
#include <fcntl.h>

#define DATA TEST_DATA "/registries_conf/"

static struct registries_conf load(struct arena *a, const char *text)
{
	struct registries_conf c = { 0 };
	struct err e;

	assert_ok(registries_conf_read(a, str_of(text), &c, &e), e);
	return c;
}

static struct hosts hosts_of(struct arena *a, const struct registries_conf *c, const char *name)
{
	struct hosts h = { 0 };
	struct ref ref;
	struct err e;
	bool found;

	assert_ok(ref_parse(a, name, &ref, &e), e);
	assert_ok(registries_conf_hosts(a, c, &ref, &h, &found, &e), e);
	assert_int_equal(found, h.n > 0);
	return h;
}

static struct registries_conf all(struct arena *a)
{
	struct registries_conf c = { 0 };
	struct str text;
	struct err e;

	assert_ok(fs_read_file(a, AT_FDCWD, DATA "good/all.conf", 1 << 20, &text, &e), e);
	assert_ok(registries_conf_read(a, text, &c, &e), e);
	return c;
}

TEST(a_location_replaces_what_the_prefix_stands_for)
{
	auto_arena a = { 0 };
	struct registries_conf c = all(&a);
	struct hosts h = hosts_of(&a, &c, "registry.example/team/app:1");

	assert_int_equal(h.n, 2); /* a.example is for digests only */
	assert_string_equal(h.host[0].authority, "b.example");
	assert_string_equal(h.host[0].repository, "cache/app");
	assert_string_equal(h.host[0].scheme, "http");
	assert_true(h.host[0].skip_verify && h.host[0].tls_said);
	assert_false(h.host[0].is_origin);
	assert_int_equal(h.host[0].capabilities & HOST_PUSH, 0);
	assert_string_equal(h.host[1].authority, "mirror.example:5000");
	assert_string_equal(h.host[1].repository, "x/app");
	assert_int_equal(hosts_of(&a, &c, "registry.example/team:1").n, 0 + 2);
	assert_int_equal(hosts_of(&a, &c, "registry.example/teams/app:1").n, 0);
	assert_int_equal(hosts_of(&a, &c, "elsewhere.example/app").n, 0);
}

TEST(a_digest_asks_all_mirrors)
{
	auto_arena a = { 0 };
	struct registries_conf c = all(&a);
	struct hosts h = hosts_of(&a, &c, "registry.example/team/app@sha256:"
				  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");

	assert_int_equal(h.n, 3);
	assert_string_equal(h.host[0].authority, "a.example");
	assert_string_equal(h.host[0].repository, "app");
}

TEST(docker_hub_keeps_its_api_host_and_its_library)
{
	auto_arena a = { 0 };
	struct registries_conf c = all(&a);
	struct hosts h = hosts_of(&a, &c, "busybox@sha256:"
				  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");

	assert_int_equal(h.n, 2);
	assert_string_equal(h.host[0].authority, "hub.example");
	assert_string_equal(h.host[0].repository, "docker.io/library/busybox");
	assert_string_equal(h.host[1].authority, "registry-1.docker.io");
	assert_string_equal(h.host[1].repository, "library/busybox");
	assert_true(h.host[1].is_origin);
}

TEST(the_longest_prefix_counts_and_a_wildcard_matches_any_depth)
{
	auto_arena a = { 0 };
	struct registries_conf c = load(&a, "[[registry]]\nprefix = \"*.example\"\nlocation = \"short.test\"\n"
					"[[registry]]\nprefix = \"*.deep.example\"\n"
					"[[registry]]\nlocation = \"a.deep.example:5000/x\"\n");
	struct hosts h = hosts_of(&a, &c, "q.example/r/s");

	assert_string_equal(h.host[0].authority, "short.test");
	assert_string_equal(h.host[0].repository, "r/s");
	h = hosts_of(&a, &c, "a.deep.example/r/s");
	assert_string_equal(h.host[0].authority, "a.deep.example");
	h = hosts_of(&a, &c, "a.deep.example:5000/x/s");
	assert_string_equal(h.host[0].repository, "x/s");
	assert_int_equal(hosts_of(&a, &c, "example/r/s").n, 0);
}

TEST(what_is_blocked_says_so)
{
	auto_arena a = { 0 };
	struct registries_conf c = all(&a);
	struct hosts h;
	struct ref ref;
	struct err e;
	bool found;

	assert_ok(ref_parse(&a, "x.blocked.example/a", &ref, &e), e);
	assert_err(registries_conf_hosts(&a, &c, &ref, &h, &found, &e), e, ERR_DENIED, "blocks \"*.blocked.example\"");
}

TEST(a_short_name_is_its_alias_or_is_searched_for)
{
	auto_arena a = { 0 };
	struct registries_conf c = all(&a), none = { 0 };
	struct err e;
	char **n;

	assert_ok(registries_conf_names(&a, &c, "busybox:1", &n, &e), e);
	assert_int_equal(strv_len(n), 1);
	assert_string_equal(n[0], "registry.example/tools/busybox:1");
	assert_ok(registries_conf_names(&a, &c, "team/app@sha256:0", &n, &e), e);
	assert_string_equal(n[0], "registry.example/app@sha256:0");
	assert_ok(registries_conf_names(&a, &c, "other", &n, &e), e);
	assert_int_equal(strv_len(n), 2);
	assert_string_equal(n[0], "registry.example/other");
	assert_string_equal(n[1], "docker.io/other");
	assert_ok(registries_conf_names(&a, &c, "localhost/busybox", &n, &e), e);
	assert_string_equal(n[0], "localhost/busybox");
	assert_ok(registries_conf_names(&a, &none, "busybox", &n, &e), e);
	assert_string_equal(n[0], "busybox");
	c.mode = SHORT_NAMES_ENFORCING;
	assert_err(registries_conf_names(&a, &c, "other", &n, &e), e, ERR_INVALID, "registry.example/other");
	c.mode = SHORT_NAMES_DISABLED;
	assert_ok(registries_conf_names(&a, &c, "busybox", &n, &e), e);
	assert_string_equal(n[0], "registry.example/busybox");
}

TEST(a_later_file_replaces_single_things)
{
	auto_arena a = { 0 };
	struct registries_conf c = all(&a);
	struct err e;
	char **n;

	assert_ok(registries_conf_read(&a, STR("[[registry]]\nprefix = \"*.blocked.example\"\n"
					       "[aliases]\nbusybox = \"\"\nnew = \"a.example/new\"\n"), &c, &e), e);
	assert_int_equal(hosts_of(&a, &c, "x.blocked.example/a").n, 1);
	assert_ok(registries_conf_names(&a, &c, "busybox", &n, &e), e);
	assert_int_equal(strv_len(n), 2);
	assert_ok(registries_conf_names(&a, &c, "new", &n, &e), e);
	assert_string_equal(n[0], "a.example/new");
}

TEST(bad_files_are_refused)
{
	const struct dirent *f;
	DIR *dir = opendir(DATA "bad");
	int n = 0;

	assert_non_null(dir);
	while ((f = readdir(dir))) {
		auto_arena a = { 0 };
		struct registries_conf c = { 0 };
		struct str text;
		struct err e;

		if (*f->d_name == '.')
			continue;
		assert_ok(fs_read_file(&a, AT_FDCWD, path_join(&a, DATA "bad", f->d_name), 1 << 20, &text, &e), e);
		if (registries_conf_read(&a, text, &c, &e) == 0)
			fail_msg("%s is taken", f->d_name);
		assert_int_equal(e.kind, ERR_INVALID);
		n++;
	}
	(void)closedir(dir);
	assert_true(n >= 12);
}
