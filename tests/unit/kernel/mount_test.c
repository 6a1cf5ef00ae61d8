#include "test.h"

#include "kernel/mount.h"

#include <sys/mount.h>

static struct mount_options parse(struct arena *a, char *const *words)
{
	struct mount_options o;

	mount_options_parse(a, words, &o);
	return o;
}

TEST(words_become_flags_and_the_rest_is_data)
{
	char *const words[] = { "nosuid", "strictatime", "mode=755", "size=65536k", NULL };
	auto_arena a = { 0 };
	struct mount_options o = parse(&a, words);

	assert_int_equal(o.flags, MS_NOSUID | MS_STRICTATIME);
	assert_string_equal(o.data, "mode=755,size=65536k");
	assert_false(o.bind);
}

TEST(a_later_word_wins)
{
	char *const words[] = { "ro", "noexec", "rw", NULL };
	auto_arena a = { 0 };
	struct mount_options o = parse(&a, words);

	assert_int_equal(o.flags, MS_NOEXEC);
	assert_int_equal(o.attr_set, MOUNT_ATTR_NOEXEC);
	assert_int_equal(o.attr_clear, MOUNT_ATTR_RDONLY);
	assert_null(o.data);
}

TEST(a_bind_keeps_its_propagation_and_recursive_flags)
{
	char *const words[] = { "rbind", "rslave", "rro", "rnosuid", "nodev", NULL };
	auto_arena a = { 0 };
	struct mount_options o = parse(&a, words);

	assert_true(o.bind && o.bind_tree);
	assert_int_equal(o.propagation, MS_SLAVE);
	assert_true(o.propagation_tree);
	assert_int_equal(o.tree_set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
	assert_int_equal(o.attr_set, MOUNT_ATTR_NODEV);
}

TEST(relatime_is_no_recursive_elatime)
{
	char *const words[] = { "relatime", NULL };
	auto_arena a = { 0 };
	struct mount_options o = parse(&a, words);

	assert_int_equal(o.flags, MS_RELATIME);
	assert_int_equal(o.tree_set, 0);
}
