/* The least a program can cost that libc starts: what `state` is held against. */
int main(void)
{
	return 0;
}
