/* The tar reader. The last byte says in pieces of what size the archive comes; blocks that look like
 * headers are given their right checksums, or no change of a header would get past them. */
#include "base/mem.h"
#include "image/tar.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

extern unsigned seen;
unsigned seen; /* so that every byte is really looked at */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
	const uint8_t *p;
	size_t left, piece;
};

static int more(void *ctx, const unsigned char **p, size_t *n, struct err *e)
{
	struct bytes *b = ctx;

	(void)e;
	*p = b->p;
	*n = MIN(b->left, b->piece);
	b->p += *n;
	b->left -= *n;
	return 0;
}

static void put_checksums(uint8_t *p, size_t size)
{
	for (; size >= TAR_BLOCK; p += TAR_BLOCK, size -= TAR_BLOCK) {
		char text[8];
		unsigned sum = 0;

		if (memcmp(p + 257, "ustar", 5) != 0)
			continue;
		memset(p + 148, ' ', 8);
		for (int i = 0; i < TAR_BLOCK; i++)
			sum += p[i];
		(void)snprintf(text, sizeof(text), "%06o", sum & 0777777);
		memcpy(p + 148, text, 7);
	}
}

/* Every byte is read; data lies within the file, in order. */
static int read_data(struct tar_reader *t, const struct tar_entry *entry, unsigned *sum, struct err *e)
{
	uint64_t offset = 0, end = 0;
	const unsigned char *p;
	size_t n = 0;

	while (tar_data(t, &p, &n, &offset, e) == 0) {
		if (!n)
			return 0;
		if (offset < end || (entry->type == TAR_FILE && (offset > entry->size || n > entry->size - offset)))
			__builtin_trap();
		end = offset + n;
		for (size_t i = 0; i < n; i++)
			*sum += p[i];
	}
	return -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tar_entry entry;
	struct bytes b;
	uint8_t *copy;
	unsigned sum = 0;
	struct err e;
	auto_tar t;

	copy = mem_alloc0(size + 1);
	memcpy(copy, data, size);
	put_checksums(copy, size);
	b = (struct bytes){ copy, size, size && data[size - 1] ? data[size - 1] * 7u : 1u << 20 };
	tar_open(&t, (struct tar_source){ more, &b });
	while (tar_next(&t, &entry, &e) > 0) {
		if (!*entry.path || strlen(entry.path) > TAR_PATH_MAX || strlen(entry.link) > TAR_PATH_MAX ||
		    (entry.mode & ~07777u))
			__builtin_trap();
		for (size_t i = 0; i < entry.nxattrs; i++)
			for (size_t j = 0; j < entry.xattrs[i].value.len; j++)
				sum += (unsigned char)entry.xattrs[i].value.p[j] + (unsigned)strlen(entry.xattrs[i].name);
		/* Some entries are left unread, as whiteouts are. */
		if ((entry.mtime_s & 7) != 7 && read_data(&t, &entry, &sum, &e) < 0)
			break;
	}
	mem_free(copy);
	seen = sum;
	return 0;
}
