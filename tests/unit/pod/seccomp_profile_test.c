#include "pod/seccomp_profile.h"

#include "base/fs.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>

/* Every file of a folder parses, or none does. */
static void try_all(const char *folder, int want)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	unsigned n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		auto_arena a = { 0 };
		struct seccomp_profile p;
		struct str text;
		struct err e;

		if (entry->d_name[0] == '.')
			continue;
		assert_ok(fs_read_file(&a, dirfd(dir), entry->d_name, SECCOMP_PROFILE_MAX, &text, &e), e);
		if (seccomp_profile_parse(&a, text, &p, &e) != want)
			fail_msg("%s/%s: %s", folder, entry->d_name, want ? "was taken" : e.msg);
		n++;
	}
	closedir(dir);
	assert_true(n > 0);
}

TEST(good_profiles_are_taken)
{
	try_all(TEST_DATA "/seccomp/good", 0);
}

TEST(bad_profiles_are_refused)
{
	try_all(TEST_DATA "/seccomp/bad", -1);
}

TEST(a_kernel_that_is_no_version_is_refused)
{
	auto_arena a = { 0 };
	struct seccomp_condition c = { .min_kernel = (char *)"new" };
	struct seccomp_rule r = { .name = (char *)"a", .action = (char *)"SCMP_ACT_ALLOW", .includes = &c };
	struct seccomp_profile p = { .default_action = (char *)"SCMP_ACT_ERRNO", .rules = { &r, 1 } };
	struct seccomp_target t = { .kernel_major = 6 };
	struct oci_seccomp out;
	struct err e;

	assert_err(seccomp_profile_resolve(&a, &p, &t, &out, &e), e, ERR_INVALID, "minKernel: \"new\"");
}
