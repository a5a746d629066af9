from upkept.testing.fake_salesforce.server import main

main()
