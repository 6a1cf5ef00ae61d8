#include "monitor/message.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str packet = { (const char *)data, size };
	struct message_field f;
	struct message m;
	struct str rest;
	struct err e;

	if (message_parse(packet, &m, &e) < 0)
		return 0;
	rest = m.fields;
	while (message_next(&rest, &f))
		(void)message_text(&m, f.tag, "");
	if (rest.len)
		__builtin_trap(); /* what was checked can be walked to its end */
	(void)message_error(&m, &e);
	(void)message_parse_body(packet, &m, &e);
	return 0;
}
