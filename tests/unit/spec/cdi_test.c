#include "test.h"

#include "base/fs.h"
#include "spec/cdi.h"
#include "spec/yaml.h"

#include <dirent.h>
#include <fcntl.h>

#define DATA TEST_DATA "/cdi/"

static int read_file(struct arena *a, const char *path, struct cdi_spec *out, struct err *e)
{
	struct json *doc;
	struct str text;

	assert_ok(fs_read_file(a, AT_FDCWD, path, CDI_SPEC_MAX, &text, e), *e);
	if ((ends_with(path, ".json") ? json_parse(a, text, &doc, e) : yaml_parse(a, text, &doc, e)) < 0)
		return -1;
	return cdi_spec_read(a, doc, out, e);
}

TEST(every_field_is_read)
{
	auto_arena a = { 0 };
	struct cdi_spec s;
	struct err e;

	assert_ok(read_file(&a, DATA "good/all.json", &s, &e), e);
	assert_string_equal(s.kind, "vendor.example/class.a");
	assert_string_equal(s.edits.env[0], "ALL=yes");
	assert_int_equal(s.devices.count, 1);
	const struct cdi_device *d = s.devices.p;
	const struct cdi_device_node *nodes = d->edits.device_nodes.p;
	const struct cdi_mount *mounts = d->edits.mounts.p;
	const struct cdi_hook *hook = d->edits.hooks.p;
	const struct cdi_net_device *net = d->edits.net_devices.p;
	assert_string_equal(d->name, "0");
	assert_string_equal(nodes[0].host_path, "/dev/null");
	assert_int_equal(*nodes[1].file_mode, 0666);
	assert_int_equal(*nodes[1].gid, 8);
	assert_string_equal(nodes[1].permissions, "none");
	assert_string_equal(mounts[1].type, "tmpfs");
	assert_string_equal(hook->name, "createContainer");
	assert_int_equal(*hook->timeout, 5);
	assert_string_equal(net->host_name, "eth9");
	assert_int_equal(((uint32_t *)d->edits.additional_gids.p)[0], 44);
	assert_string_equal(d->edits.intel_rdt->schemata[0], "L3:0=f");
}

TEST(yaml_is_read_as_vendors_tools_write_it)
{
	auto_arena a = { 0 };
	struct cdi_spec s;
	struct err e;

	assert_ok(read_file(&a, DATA "good/nvidia.yaml", &s, &e), e);
	const struct cdi_device *d = s.devices.p;
	const struct cdi_device_node *node = d[0].edits.device_nodes.p;
	assert_string_equal(d[0].name, "0");
	assert_int_equal(*node->file_mode, 0666); /* an octal number */
	assert_string_equal(d[1].edits.env[1], "QUOTED=1");
	assert_int_equal(strv_len(((struct cdi_mount *)s.edits.mounts.p)->options), 4);
}

TEST(each_bad_file_is_refused)
{
	DIR *dir = opendir(DATA "bad");
	struct dirent *entry;
	unsigned n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		auto_arena a = { 0 };
		struct cdi_spec s;
		struct err e;

		if (entry->d_name[0] == '.')
			continue;
		n++;
		if (read_file(&a, arena_printf(&a, DATA "bad/%s", entry->d_name), &s, &e) == 0)
			fail_msg("%s was taken", entry->d_name);
		assert_int_equal(e.kind, ERR_INVALID);
	}
	assert_int_equal(closedir(dir), 0);
	assert_true(n >= 20);
}

TEST(names_have_vendor_class_and_device)
{
	static const char *const bad[] = { "", "a", "a/b", "a/b=", "=c", "a/=c", "/b=c", "a/b/c=d", "a b/c=d", "1a/b=c", "a/b=-c" };
	struct cdi_name name;
	struct err e;

	assert_ok(cdi_name_parse("vendor.com/net.class=gpu0:1", &name, &e), e);
	assert_true(str_eqz(name.kind, "vendor.com/net.class"));
	assert_true(str_eqz(name.device, "gpu0:1"));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(cdi_name_parse(bad[i], &name, &e), e, ERR_INVALID, "vendor.com/class=name");
}

TEST(yaml_words_have_types)
{
	auto_arena a = { 0 };
	struct json *j;
	struct err e;

	assert_ok(yaml_parse(&a, STR("a: 0x1F\nb: '12'\nc: ~\nd: True\ne: [-3, 0o17, 08, 1.5, on]\n? f\n: {g: h}\n"), &j, &e), e);
	assert_int_equal(json_get(j, "a")->type, JSON_NUMBER);
	assert_true(str_eqz(json_get(j, "a")->text, "31"));
	assert_int_equal(json_get(j, "a")->line, 1);
	assert_int_equal(json_get(j, "b")->type, JSON_STRING);
	assert_int_equal(json_get(j, "c")->type, JSON_NULL);
	assert_int_equal(json_get(j, "d")->type, JSON_TRUE);
	const struct json *item = json_get(j, "e")->first;
	assert_true(str_eqz(item->text, "-3"));
	assert_true(str_eqz(item->next->text, "15"));
	assert_int_equal(item->next->next->type, JSON_STRING); /* no octal number */
	assert_int_equal(item->next->next->next->next->type, JSON_STRING);
	assert_true(str_eqz(json_get(json_get(j, "f"), "g")->text, "h"));
	assert_err(yaml_parse(&a, STR("a: 1\na: 2\n"), &j, &e), e, ERR_INVALID, "line");
	assert_err(yaml_parse(&a, STR("a: \"\\0\"\n"), &j, &e), e, ERR_INVALID, "NUL");
	auto_buf deep = BUF(1000);
	for (int i = 0; i < 100; i++)
		assert_ok(buf_addz(&deep, "[", &e), e);
	for (int i = 0; i < 100; i++)
		assert_ok(buf_addz(&deep, "]", &e), e);
	assert_err(yaml_parse(&a, buf_str(&deep), &j, &e), e, ERR_INVALID, "");
}


