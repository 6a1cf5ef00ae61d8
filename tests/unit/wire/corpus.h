/* Walks tests/data/FORMAT/{good,bad}: adding a file adds a test. */
#ifndef KNARR_TESTS_WIRE_CORPUS_H
#define KNARR_TESTS_WIRE_CORPUS_H

#include "base/fs.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>

static inline void corpus_each(const char *folder, void (*fn)(const char *name, struct str bytes))
{
	auto_arena a = { 0 };
	const char *path = arena_printf(&a, TEST_DATA "/%s", folder);
	DIR *d = opendir(path);
	struct dirent *entry;
	unsigned n = 0;

	assert_non_null(d);
	while ((entry = readdir(d))) {
		struct str bytes;
		struct err e;

		if (entry->d_name[0] == '.')
			continue;
		assert_ok(fs_read_file(&a, AT_FDCWD, path_join(&a, path, entry->d_name), 1 << 20, &bytes, &e), e);
		fn(entry->d_name, bytes);
		n++;
	}
	(void)closedir(d);
	assert_true(n > 0);
}

#endif
