#include "test.h"

#include "base/fs.h"
#include "spec/cni_result.h"

#include <dirent.h>
#include <fcntl.h>

static void parse_file(struct arena *a, const char *name, const char *version, struct cni_result *out)
{
	struct str text;
	struct err e;

	assert_ok(fs_read_file(a, AT_FDCWD, arena_printf(a, "%s/cni_result/good/%s", TEST_DATA, name), CNI_RESULT_MAX,
			       &text, &e), e);
	assert_ok(cni_result_parse(a, text, version, out, &e), e);
}

TEST(the_pods_addresses_are_eth0s_with_ipv4_first)
{
	auto_arena a = { 0 };
	struct cni_result r;
	char **ips;

	parse_file(&a, "bridge-1.0.json", "1.0.0", &r);
	ips = cni_result_ips_of(&a, &r, "eth0");
	assert_int_equal(strv_len(ips), 2);
	assert_string_equal(ips[0], "10.1.0.5");
	assert_string_equal(ips[1], "fd00::5");
	assert_string_equal(cni_result_interface(&r, "eth0")->mac, "ca:fe:00:00:00:03");
	assert_null(cni_result_interface(&r, "cni0"));
}

TEST(addresses_of_other_interfaces_are_not_the_pods)
{
	auto_arena a = { 0 };
	struct cni_result r;
	struct err e;

	assert_ok(cni_result_parse(&a, STR("{\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/n\"},"
					   "{\"name\":\"net1\",\"sandbox\":\"/n\"}],\"ips\":["
					   "{\"address\":\"10.0.0.1/8\",\"interface\":1},"
					   "{\"address\":\"10.0.0.2/8\",\"interface\":0}]}"), "1.0.0", &r, &e), e);
	assert_string_equal(cni_result_ips_of(&a, &r, "eth0")[0], "10.0.0.2");
	assert_null(cni_result_ips_of(&a, &r, "eth0")[1]);
}

TEST(results_before_0_3_are_understood)
{
	auto_arena a = { 0 };
	struct cni_result r;

	parse_file(&a, "old-0.2.0.json", "0.2.0", &r);
	assert_int_equal(r.nips, 2);
	assert_string_equal(cni_result_ips_of(&a, &r, "eth0")[1], "fd00::5");
}

TEST(a_result_without_version_is_the_configurations)
{
	auto_arena a = { 0 };
	struct cni_result r;
	struct err e;

	assert_ok(cni_result_parse(&a, STR("{\"ip4\":{\"ip\":\"10.0.0.1/8\"}}"), "0.1.0", &r, &e), e);
	assert_int_equal(r.nips, 1);
	assert_ok(cni_result_parse(&a, STR("{\"ip4\":{\"ip\":\"10.0.0.1/8\"}}"), "1.0.0", &r, &e), e);
	assert_int_equal(r.nips, 0);
}

static void each_file(const char *dir, bool good)
{
	auto_arena a = { 0 };
	char *path = arena_printf(&a, "%s/cni_result/%s", TEST_DATA, dir);
	DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	for (struct dirent *f; (f = readdir(d)); ) {
		struct cni_result r;
		struct str text;
		struct err e;
		int rc;

		if (*f->d_name == '.')
			continue;
		assert_ok(fs_read_file(&a, AT_FDCWD, path_join(&a, path, f->d_name), CNI_RESULT_MAX, &text, &e), e);
		rc = cni_result_parse(&a, text, "1.0.0", &r, &e);
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

TEST(an_error_has_a_code_or_a_message)
{
	auto_arena a = { 0 };
	struct cni_error c;
	struct err e;

	assert_ok(cni_error_parse(&a, STR("{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"later\"}"), &c, &e), e);
	assert_int_equal(c.code, CNI_ERROR_TRY_AGAIN);
	assert_string_equal(c.msg, "later");
	assert_string_equal(c.details, "");
	assert_err(cni_error_parse(&a, STR("{}"), &c, &e), e, ERR_INVALID, "neither");
	assert_err(cni_error_parse(&a, STR("panic"), &c, &e), e, ERR_INVALID, "");
}
