#include "test.h"

#include "base/fs.h"
#include "spec/cni_conf.h"

#include <dirent.h>
#include <fcntl.h>

static struct json *json_of(struct arena *a, const char *text)
{
	struct json *doc;
	struct err e;

	assert_ok(json_parse(a, str_of(text), &doc, &e), e);
	return doc;
}

static void assert_prints(const char *conf, size_t plugin, const char *prev, const char *rc, const char *want)
{
	auto_arena a = { 0 };
	auto_buf b = BUF(1 << 20);
	struct cni_conf c;
	struct err e;

	assert_ok(cni_conf_parse(&a, str_of(conf), &c, &e), e);
	assert_ok(cni_conf_print(&b, &c, plugin, prev ? json_of(&a, prev) : NULL, rc ? json_of(&a, rc) : NULL, &e), e);
	assert_string_equal(buf_text(&b), want);
}

TEST(a_plugins_object_is_kept_and_the_lists_name_and_version_are_put_in)
{
	assert_prints("{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"plugins\":[{\"type\":\"a\"},"
		      "{\"z\":1e2,\"type\":\"b\",\"x\":{\"y\":[null,\"\\u00e9\"]},\"name\":\"mine\"}]}", 1, NULL, NULL,
		      "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"z\":1e2,\"type\":\"b\",\"x\":{\"y\":[null,\"\u00e9\"]}}");
}

TEST(the_previous_result_replaces_one_in_the_file)
{
	assert_prints("{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"a\",\"prevResult\":{\"old\":1}}", 0,
		      "{\"ips\":[]}", NULL,
		      "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"a\",\"prevResult\":{\"ips\":[]}}");
}

TEST(a_plugin_gets_only_the_runtime_config_it_asks_for)
{
	const char *rc = "{\"portMappings\":[{\"hostPort\":1}],\"bandwidth\":{}}";

	assert_prints("{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"a\",\"capabilities\":{\"portMappings\":true,"
		      "\"bandwidth\":false}}", 0, NULL, rc,
		      "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"a\",\"capabilities\":{\"portMappings\":true,"
		      "\"bandwidth\":false},\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":1}]}}");
	assert_prints("{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"a\"}", 0, NULL, rc,
		      "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"a\"}");
}

TEST(the_newest_known_version_of_the_offered_is_used)
{
	auto_arena a = { 0 };
	struct cni_conf c;
	struct err e;

	assert_ok(cni_conf_parse(&a, STR("{\"cniVersion\":\"1.2.0\",\"cniVersions\":[\"0.4.0\",\"1.1.0\",\"2.0.0\"],"
					 "\"name\":\"n\",\"type\":\"a\"}"), &c, &e), e);
	assert_string_equal(c.version, "1.1.0");
	assert_ok(cni_conf_parse(&a, STR("{\"name\":\"n\",\"type\":\"a\"}"), &c, &e), e);
	assert_string_equal(c.version, "0.1.0");
}

static void each_file(const char *dir, bool good)
{
	auto_arena a = { 0 };
	char *path = arena_printf(&a, "%s/cni_conf/%s", TEST_DATA, dir);
	DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	for (struct dirent *f; (f = readdir(d)); ) {
		struct cni_conf c;
		struct str text;
		struct err e;
		int rc;

		if (*f->d_name == '.')
			continue;
		assert_ok(fs_read_file(&a, AT_FDCWD, path_join(&a, path, f->d_name), CNI_CONF_MAX, &text, &e), e);
		rc = cni_conf_parse(&a, text, &c, &e);
		if (good ? rc < 0 : rc == 0 || e.kind != ERR_INVALID)
			fail_msg("%s/%s: %s", dir, f->d_name, rc < 0 ? e.msg : "was taken");
		n++;
	}
	(void)closedir(d);
	assert_true(n >= 3);
}

TEST(good_files_are_taken)
{
	each_file("good", true);
}

TEST(bad_files_are_refused)
{
	each_file("bad", false);
}
