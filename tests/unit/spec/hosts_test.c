#include "test.h"

#include "base/clock.h"
#include "base/fs.h"
#include "spec/hosts.h"
#include "spec/toml.h"

#include <dirent.h>

static int parse(struct arena *a, const char *text, const char *registry, struct hosts *h, struct err *e)
{
	return hosts_parse(a, str_of(text), registry, h, e);
}

TEST(mirrors_come_first_in_their_order_then_the_server)
{
	static const char text[] =
		"server = \"https://registry-1.docker.io\" # upstream\n"
		"[host.\"https://b.example\"]\n  capabilities = [\"pull\"]\n"
		"[host.'http://a.example:5000/us']\n"
		"  capabilities = [ \"pull\",\n \"resolve\", ]\n  skip_verify = true\n"
		"  ca = \"a.crt\"\n  client = [[\"c.pem\", \"k.pem\"], [\"both.pem\", \"\"]]\n  dial_timeout = \"1s\"\n"
		"  [host.'http://a.example:5000/us'.header]\n    x-one = \"1\"\n    x-two = [\"2\", \"3\"]\n"
		"[host.\"https://c.example/v2/up\"]\n  override_path = true\n";
	auto_arena a = { 0 };
	const struct host_client *client;
	const struct json_pair *header;
	struct hosts h;
	struct err e;

	assert_ok(parse(&a, text, "docker.io", &h, &e), e);
	assert_int_equal(h.n, 4);
	assert_string_equal(h.host[0].authority, "b.example");
	assert_string_equal(h.host[0].path, "/v2");
	assert_int_equal(h.host[0].capabilities, HOST_PULL);
	assert_false(h.host[0].is_origin);
	assert_string_equal(h.host[1].scheme, "http");
	assert_string_equal(h.host[1].authority, "a.example:5000");
	assert_string_equal(h.host[1].path, "/us/v2");
	assert_int_equal(h.host[1].capabilities, HOST_PULL | HOST_RESOLVE);
	assert_true(h.host[1].skip_verify && h.host[1].tls_said);
	assert_string_equal(h.host[1].ca[0], "a.crt");
	assert_int_equal(h.host[1].dial_timeout_ns, NS_PER_S);
	client = h.host[1].client.p;
	assert_int_equal(h.host[1].client.count, 2);
	assert_string_equal(client[0].key, "k.pem");
	assert_null(client[1].key);
	header = h.host[1].headers.p;
	assert_int_equal(h.host[1].headers.count, 3);
	assert_string_equal(header[2].value, "3");
	assert_string_equal(h.host[2].path, "/v2/up");
	assert_string_equal(h.host[3].authority, "registry-1.docker.io");
	assert_true(h.host[3].is_origin);
}

TEST(without_a_server_the_registry_itself_comes_last)
{
	auto_arena a = { 0 };
	struct hosts h;
	struct err e;

	assert_ok(parse(&a, "[host.\"http://127.0.0.1:5000\"]\n", "registry.k8s.io", &h, &e), e);
	assert_int_equal(h.n, 2);
	assert_string_equal(h.host[1].authority, "registry.k8s.io");
	assert_string_equal(h.host[1].scheme, "https");
	assert_ok(parse(&a, "", "docker.io", &h, &e), e);
	assert_string_equal(h.host[0].authority, "registry-1.docker.io");
}

TEST(a_loopback_registry_may_speak_plain_http)
{
	auto_arena a = { 0 };
	struct hosts h;

	hosts_default(&a, "localhost:5000", &h);
	assert_string_equal(h.host[0].scheme, "http");
	assert_true(h.host[0].tls_said && h.host[0].skip_verify);
	hosts_default(&a, "127.0.0.1:80", &h);
	assert_string_equal(h.host[0].scheme, "http");
	assert_false(h.host[0].tls_said);
	hosts_default(&a, "localhost:443", &h);
	assert_string_equal(h.host[0].scheme, "https");
	hosts_default(&a, "10.0.0.1:5000", &h);
	assert_string_equal(h.host[0].scheme, "https");
	assert_false(host_is_loopback("127.0.0.1.example:5000"));
	assert_false(host_is_loopback("localhost.example"));
	assert_true(host_is_loopback("[::1]:5000"));
}

TEST(folders_are_looked_for_as_containerd_does)
{
	auto_arena a = { 0 };
	char **v = hosts_folders(&a, "reg.example:5000");

	assert_string_equal(v[0], "reg.example_5000_");
	assert_string_equal(v[1], "reg.example:5000");
	assert_string_equal(v[2], "_default");
	assert_null(v[3]);
	v = hosts_folders(&a, "docker.io");
	assert_string_equal(v[0], "docker.io");
	assert_string_equal(v[1], "_default");
}

TEST(errors_name_the_line)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "server = x", "line 1 column 10" },
		{ "\n\n[host.\"https://a\"]\ncapabilites = []", "capabilites" },
		{ "[host.\"https://a\"]\ncapabilities = [\"steal\"]", "steal" },
		{ "[host.\"ftp://a\"]\n", "only http and https" },
		{ "[host.\"https://a b\"]\n", "not a URL" },
		{ "server = \"x\"\nserver = \"y\"", "line 2" },
		{ "[host.\"https://a\"]\n[host.\"https://a\"]", "line 2" },
		{ "[[host]]\n", "host must be a table" },
		{ "[host.\"https://a\"]\nskip_verify = \"yes\"", "skip_verify" },
		{ "ca = 5", "line 1: ca" },
		{ "[header]\n\"a b\" = \"x\"", "line 2" },
		{ "[header]\nx = \"a\\nb\"", "line 2" },
		{ "client = [[\"a\"]]", "client" },
		{ "dial_timeout = \"soon\"", "dial_timeout" },
		{ "server = \"abc", "inside a string" },
	};
	auto_arena a = { 0 };
	struct hosts h;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(parse(&a, bad[i].text, "r.example", &h, &e), e, ERR_INVALID, bad[i].says);
}

TEST(toml_values_of_every_kind_are_read)
{
	static const char text[] = "a.b.\"c d\" = 1_000 # comment\r\ns = \"t\\u00e9\\n\"\nl = 'c:\\x'\n"
				   "m = \"\"\"\none \\\n   two\"\"\"\"\nx = {k = [true, 1.5e3, -7], e = {}}\n";
	auto_arena a = { 0 };
	struct json *doc;
	const struct json *x;
	struct err e;

	assert_ok(toml_parse(&a, str_of(text), &doc, &e), e);
	x = json_get(json_get(json_get(doc, "a"), "b"), "c d");
	assert_string_equal(x->text.p, "1000");
	assert_string_equal(json_get(doc, "s")->text.p, "t\xc3\xa9\n");
	assert_string_equal(json_get(doc, "l")->text.p, "c:\\x");
	assert_string_equal(json_get(doc, "m")->text.p, "one two\"");
	x = json_get(json_get(doc, "x"), "k");
	assert_int_equal(x->count, 3);
	assert_int_equal(x->first->type, JSON_TRUE);
}

TEST(toml_is_bounded)
{
	auto_arena a = { 0 };
	char deep[200];
	struct json *doc;
	struct err e;

	memset(deep, '[', sizeof(deep));
	deep[0] = 'a';
	deep[1] = '=';
	assert_err(toml_parse(&a, (struct str){ deep, sizeof(deep) }, &doc, &e), e, ERR_INVALID, "too deep");
}

TEST(bad_hosts_files_are_refused)
{
	DIR *dir = opendir(TEST_DATA "/hosts/bad");
	struct dirent *file;

	assert_non_null(dir);
	while ((file = readdir(dir))) {
		auto_arena a = { 0 };
		struct hosts h;
		struct str text;
		struct err e;

		if (file->d_name[0] == '.')
			continue;
		assert_ok(fs_read_file(&a, dirfd(dir), file->d_name, 2 << 20, &text, &e), e);
		if (hosts_parse(&a, text, "docker.io", &h, &e) == 0)
			fail_msg("%s was taken", file->d_name);
	}
	(void)closedir(dir);
}
