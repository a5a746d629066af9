from upkept.testing.fake_marketo.server import main

main()
